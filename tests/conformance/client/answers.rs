//! Answers to what servers ask in between: yes, with the defaults.

use rmcp::model::*;
use rmcp::service::RequestContext;
use rmcp::{ClientHandler, ErrorData, RoleClient};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::sample;

/// Accepts every form, is a model with one answer, and has one root.
pub(crate) struct Obliging;

fn typed<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("the client's JSON fits rmcp's types")
}

#[expect(deprecated, reason = "servers may still sample and ask for roots")]
impl ClientHandler for Obliging {
    fn get_info(&self) -> ClientConfig {
        let capabilities = typed(json!({"elicitation": {"form": {}}, "sampling": {}, "roots": {}}));
        ClientConfig::new(capabilities, Implementation::new("trunkline-conformance-client", "1.0.0"))
    }

    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let schema = serde_json::to_value(&params).unwrap_or_default();
        let fields =
            schema.pointer("/requestedSchema").and_then(Value::as_object).cloned().unwrap_or_default();
        let content = sample::arguments(&fields, &Value::Null);
        Ok(typed(json!({"action": "accept", "content": content})))
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let content = json!({"type": "text", "text": "A model's answer"});
        Ok(typed(
            json!({"role": "assistant", "content": content, "model": "sample", "stopReason": "endTurn"}),
        ))
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Ok(typed(json!({"roots": [{"uri": "file:///sample", "name": "sample"}]})))
    }
}
