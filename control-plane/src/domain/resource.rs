//! Resources and resource templates of upstreams.

use trunkline::common::v1::Meta;
use trunkline::registry::v1::Resource;

use super::{Kind, Noun, Violations, definition, meta};

impl Noun for Resource {
    const KIND: Kind = Kind::Resource;
    const MESSAGE: &'static str = "trunkline.registry.v1.Resource";
    const OUTPUT_ONLY: &'static [&'static str] =
        &["uri", "uri_template", "title", "description", "stale_time", "position"];

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
            uri: std::mem::take(&mut self.uri),
            uri_template: std::mem::take(&mut self.uri_template),
            title: std::mem::take(&mut self.title),
            description: std::mem::take(&mut self.description),
            stale_time: self.stale_time.take(),
            position: std::mem::take(&mut self.position),
            ..Self::default()
        }
    }
    fn settle(&mut self) {
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
}
