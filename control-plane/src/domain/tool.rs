//! Tools of upstreams.

use trunkline::common::v1::Meta;
use trunkline::registry::v1::Tool;

use super::{Kind, Noun, Violations, definition, meta};

impl Noun for Tool {
    const KIND: Kind = Kind::Tool;
    const MESSAGE: &'static str = "trunkline.registry.v1.Tool";
    const OUTPUT_ONLY: &'static [&'static str] =
        &["tool_name", "title", "description", "hints", "stale_time", "position"];

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
            tool_name: std::mem::take(&mut self.tool_name),
            title: std::mem::take(&mut self.title),
            description: std::mem::take(&mut self.description),
            hints: self.hints.take(),
            stale_time: self.stale_time.take(),
            position: std::mem::take(&mut self.position),
            ..Self::default()
        }
    }
    fn settle(&mut self) {
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
}
