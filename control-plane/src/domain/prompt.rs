//! Prompts of upstreams.

use mcp::entry::List;
use trunkline::registry::v1::Prompt;

use super::entry_state::entry_rules;
use super::{KindRules, Violations, definition, meta};

impl KindRules for Prompt {
    fn set_defaults(&mut self) {
        let definition = definition::read_or_default(&self.definition_json);
        self.prompt_name = definition.name;
        self.title = definition.title;
        self.description = definition.description;
    }
    fn validate(&self, violations: &mut Violations) {
        meta::validate(self.meta.as_ref(), violations);
        definition::validate(&self.definition_json, &self.name, "name", |found| found.name, violations);
    }
    fn search(&self) -> Vec<&str> {
        vec![&self.prompt_name, &self.title, &self.description]
    }
    entry_rules!(|_| List::Prompts);
}
