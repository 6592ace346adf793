//! Asking the client something in the middle of a request, in its era's way.
//!
//! A client of an older revision gets a request on its session and the call waits for the answer. A client of 2026-07-28
//! gets `input_required` as the answer and brings what was asked for when it calls again.

use std::collections::BTreeMap;

use rmcp::model::{ClientCapabilities, InputRequiredResult, InputResponses, ServerRequest};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Map, Value, json};

use crate::catalog::typed;

/// One thing to ask for: its key, and the request that asks for it.
pub(crate) struct Question {
    key: &'static str,
    request: Value,
}

impl Question {
    pub(crate) fn elicit(key: &'static str, message: &str, schema: &Value) -> Self {
        let params = json!({"message": message, "requestedSchema": schema});
        Self { key, request: json!({"method": "elicitation/create", "params": params}) }
    }

    /// A form with one required text field.
    pub(crate) fn form(key: &'static str, message: &str, field: &str) -> Self {
        let schema =
            json!({"type": "object", "properties": {field: {"type": "string"}}, "required": [field]});
        Self::elicit(key, message, &schema)
    }

    pub(crate) fn sample(key: &'static str, prompt: &str, max_tokens: u32) -> Self {
        let messages = json!([{"role": "user", "content": {"type": "text", "text": prompt}}]);
        let params = json!({"messages": messages, "maxTokens": max_tokens});
        Self { key, request: json!({"method": "sampling/createMessage", "params": params}) }
    }

    pub(crate) fn roots(key: &'static str) -> Self {
        Self { key, request: json!({"method": "roots/list"}) }
    }

    pub(crate) fn request(&self) -> &Value {
        &self.request
    }

    /// The capability that a client needs to be asked this.
    pub(crate) fn needs(&self) -> &'static str {
        match self.request["method"].as_str() {
            Some("elicitation/create") => "elicitation",
            Some("sampling/createMessage") => "sampling",
            _ => "roots",
        }
    }

    fn accepts(&self, answer: &Value) -> bool {
        match self.needs() {
            "elicitation" => answer["action"].is_string() && self.required_fields_are_in(answer),
            "sampling" => !answer["content"].is_null(),
            _ => answer["roots"].is_array(),
        }
    }

    fn required_fields_are_in(&self, answer: &Value) -> bool {
        let required = self.request.pointer("/params/requestedSchema/required").and_then(Value::as_array);
        let has = |field: &Value| field.as_str().is_some_and(|field| !answer["content"][field].is_null());
        answer["action"] != "accept" || required.is_none_or(|required| required.iter().all(has))
    }
}

pub(crate) struct Answers(BTreeMap<String, Value>);

impl Answers {
    pub(crate) fn get(&self, key: &str) -> &Value {
        self.0.get(key).unwrap_or(&Value::Null)
    }

    /// One text field of an answered form; empty when the user gave none.
    pub(crate) fn field(&self, key: &str, field: &str) -> String {
        self.get(key)["content"][field].as_str().unwrap_or_default().to_owned()
    }

    /// The text of the model's answer.
    pub(crate) fn sampled(&self, key: &str) -> String {
        let content = &self.get(key)["content"];
        let block = content.get(0).unwrap_or(content);
        block["text"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) enum Asked {
    Answered(Answers),
    /// The client brings the answers to these when it calls again.
    Later(Map<String, Value>),
}

/// A request in progress, and what came with it.
pub(crate) struct Call {
    pub(crate) context: RequestContext<RoleServer>,
    pub(crate) responses: Option<InputResponses>,
}

impl Call {
    pub(crate) fn is_modern(&self) -> bool {
        self.context.meta.protocol_version().is_some_and(|version| version.as_str() >= "2026-07-28")
    }

    pub(crate) fn declares(&self, capability: &str) -> bool {
        let declared =
            self.context.client_capabilities().and_then(|declared| serde_json::to_value(declared).ok());
        declared.is_some_and(|declared| !declared[capability].is_null())
    }

    pub(crate) fn knows_tasks(&self) -> bool {
        self.context.client_capabilities().is_some_and(|declared| declared.supports_tasks())
    }

    /// Asks for everything that is not answered yet.
    pub(crate) async fn ask(&self, questions: &[Question]) -> Result<Asked, ErrorData> {
        for question in questions {
            self.require(question.needs())?;
        }
        if self.is_modern() { Ok(self.look_into_responses(questions)) } else { self.push(questions).await }
    }

    pub(crate) fn require(&self, capability: &str) -> Result<(), ErrorData> {
        if self.declares(capability) {
            return Ok(());
        }
        let required: ClientCapabilities = typed(json!({capability: {}}));
        Err(ErrorData::missing_required_client_capability(required))
    }

    fn look_into_responses(&self, questions: &[Question]) -> Asked {
        let mut answers = BTreeMap::new();
        let mut open = Map::new();
        for question in questions {
            let answer = self.responses.as_ref().and_then(|responses| responses.get(question.key));
            match answer.filter(|answer| question.accepts(answer)) {
                Some(answer) => drop(answers.insert(question.key.to_owned(), answer.clone())),
                None => drop(open.insert(question.key.to_owned(), question.request.clone())),
            }
        }
        if open.is_empty() { Asked::Answered(Answers(answers)) } else { Asked::Later(open) }
    }

    async fn push(&self, questions: &[Question]) -> Result<Asked, ErrorData> {
        let mut answers = BTreeMap::new();
        for question in questions {
            let request: ServerRequest = typed(question.request.clone());
            let answer = self.context.peer.send_request(request).await;
            let answer = answer.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
            answers.insert(question.key.to_owned(), serde_json::to_value(answer).unwrap_or_default());
        }
        Ok(Asked::Answered(Answers(answers)))
    }
}

pub(crate) fn input_required(requests: Map<String, Value>, state: Option<String>) -> InputRequiredResult {
    let mut result = json!({"resultType": "input_required", "inputRequests": requests});
    if let Some(state) = state {
        result["requestState"] = Value::String(state);
    }
    typed(result)
}
