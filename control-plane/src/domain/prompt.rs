//! Prompts of upstreams.

use trunkline::common::v1::Meta;
use trunkline::registry::v1::Prompt;

use super::{Kind, Noun, Violations, definition, meta};

impl Noun for Prompt {
    const KIND: Kind = Kind::Prompt;
    const MESSAGE: &'static str = "trunkline.registry.v1.Prompt";
    const OUTPUT_ONLY: &'static [&'static str] =
        &["prompt_name", "title", "description", "stale_time", "position"];

    fn name(&self) -> &str {
        &self.name
    }
    fn set_name(&mut self, name: String) {
        self.name = name;
    }
    fn meta(&self) -> Option<&Meta> {
        self.meta.as_ref()
    }
    fn meta_slot(&mut self) -> &mut Option<Meta> {
        &mut self.meta
    }
    fn take_status(&mut self) -> Self {
        Self {
            prompt_name: std::mem::take(&mut self.prompt_name),
            title: std::mem::take(&mut self.title),
            description: std::mem::take(&mut self.description),
            stale_time: self.stale_time.take(),
            position: std::mem::take(&mut self.position),
            ..Self::default()
        }
    }
    fn settle(&mut self) {
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
}
