//! Tools of upstreams.

use mcp::entry::List;
use trunkline::registry::v1::Tool;

use super::entry_state::entry_rules;
use super::{KindRules, Violations, definition, meta};

impl KindRules for Tool {
    fn set_defaults(&mut self) {
        let definition = definition::read_or_default(&self.definition_json);
        self.tool_name = definition.name;
        self.title = definition.title;
        self.description = definition.description;
        self.hints = Some(definition.hints).filter(|hints| *hints != Default::default());
    }
    fn validate(&self, violations: &mut Violations) {
        meta::validate(self.meta.as_ref(), violations);
        definition::validate(&self.definition_json, &self.name, "name", |found| found.name, violations);
    }
    fn search(&self) -> Vec<&str> {
        vec![&self.tool_name, &self.title, &self.description]
    }
    entry_rules!(|_| List::Tools);
}
