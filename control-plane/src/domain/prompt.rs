//! Prompts of upstreams.

use mcp::entry::List;
use trunkline::registry::v1::Prompt;

use super::entry_state::EntryFacts;
use super::{KindRules, Surroundings, Violations, definition, meta};

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
    const COMPUTED: &'static [&'static str] = &["state", "reason"];
    fn evaluate(&mut self, around: &Surroundings<'_>) {
        let entry = EntryFacts {
            name: &self.name,
            disabled: self.disabled,
            stale: self.stale_time.is_some(),
            list: List::Prompts,
            definition: &self.definition_json,
        };
        let (state, reason) = entry.state(around.catalogue);
        self.set_state(state);
        self.reason = reason;
    }
}
