//! Resources and resource templates of upstreams.

use mcp::entry::List;
use trunkline::registry::v1::Resource;

use super::entry_state::entry_rules;
use super::{KindRules, Violations, definition, meta};

impl KindRules for Resource {
    fn set_defaults(&mut self) {
        let definition = definition::read_or_default(&self.definition_json);
        self.uri = definition.uri;
        self.uri_template = definition.uri_template;
        self.title = if definition.title.is_empty() { definition.name } else { definition.title };
        self.description = definition.description;
    }
    fn validate(&self, violations: &mut Violations) {
        meta::validate(self.meta.as_ref(), violations);
        let identity = |found: definition::Definition| found.uri + &found.uri_template;
        definition::validate(&self.definition_json, &self.name, "uri` or `uriTemplate", identity, violations);
    }
    fn search(&self) -> Vec<&str> {
        vec![&self.uri, &self.uri_template, &self.title, &self.description]
    }
    entry_rules!(|resource| match resource.uri_template.is_empty() {
        true => List::Resources,
        false => List::Templates,
    });
}
