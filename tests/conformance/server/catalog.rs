//! What the server says it has: `catalog.json`, read into rmcp's types.

use rmcp::model::{Prompt, Resource, ResourceTemplate, ServerCapabilities, Tool};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Catalog {
    pub(crate) capabilities: ServerCapabilities,
    pub(crate) tools: Vec<Tool>,
    pub(crate) resources: Vec<Resource>,
    pub(crate) resource_templates: Vec<ResourceTemplate>,
    pub(crate) prompts: Vec<Prompt>,
}

impl Catalog {
    pub(crate) fn load() -> Self {
        serde_json::from_str(include_str!("catalog.json")).expect("the catalog fits rmcp's types")
    }

    pub(crate) fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name == name)
    }
}

/// Builds one of rmcp's types from the JSON that it stands for.
pub(crate) fn typed<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("the fixture's JSON fits rmcp's types")
}

/// Builds a finished result. rmcp takes the `resultType` out again for clients of older revisions.
pub(crate) fn complete<T: DeserializeOwned>(mut result: Value) -> T {
    result["resultType"] = "complete".into();
    typed(result)
}
