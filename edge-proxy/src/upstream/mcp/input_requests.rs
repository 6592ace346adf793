//! Requests for a client's input during a call, in either era: elicitation, sampling, roots.
//!
//! It must not know how they reach the client.

use bytes::Bytes;
use mcp::error as codes;
use mcp::json::{self, JsonError};
use mcp::message::span;
use mcp::method::{Form, Method, Sender};
use mcp::revision::Era;
use memchr::memmem;

use crate::session::capabilities::{Capabilities, ClientFeature};

/// A request of a legacy upstream to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct ServerRequest {
    /// The raw id of the upstream's request.
    pub id: Box<str>,
    pub method: Method,
    /// Its raw params.
    pub params: Box<str>,
}

/// The input that a modern upstream requires before it responds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct InputRequired {
    /// Its raw `inputRequests`, by key.
    pub requests: Option<Bytes>,
    /// Its raw `requestState`.
    pub state: Option<Bytes>,
}

impl InputRequired {
    /// Reads the input that a result requires, if any.
    pub(super) fn of(message: &Bytes, result: &str) -> Result<Option<Self>, JsonError> {
        if memmem::find(result.as_bytes(), b"input_required").is_none() {
            return Ok(None);
        }
        let [kind, requests, state] = json::members(result, ["resultType", "inputRequests", "requestState"])?;
        let slice = |raw: &str| message.slice(span(message, raw));
        let asks = kind == Some(r#""input_required""#);
        Ok(asks.then(|| Self { requests: requests.map(slice), state: state.map(slice) }))
    }
}

/// Whether an upstream may require input during a call of this method.
pub(super) fn may_ask(method: Method) -> bool {
    matches!(method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead)
}

/// Whether a request of an upstream may reach a legacy client: servers send it, and the client declared what it needs.
pub(super) fn may_reach(method: &str, params: &str, declared: Capabilities) -> bool {
    match Method::parse(method) {
        Some(Method::RootsList | Method::SamplingCreateMessage | Method::ElicitationCreate) => {
            feature(method, params).is_some_and(|feature| declared.cover(feature))
        }
        Some(method) => {
            method.form() == Form::Request
                && method.sender() != Sender::Client
                && method.is_in_era(Era::Legacy)
        }
        None => false,
    }
}

/// Returns the feature that a client must have for this request; `None` where no client can be asked it.
pub(super) fn feature(method: &str, params: &str) -> Option<ClientFeature> {
    match Method::parse(method)? {
        Method::RootsList => Some(ClientFeature::Roots),
        Method::SamplingCreateMessage => Some(ClientFeature::Sampling),
        Method::ElicitationCreate => {
            let [mode] = json::members(params, ["mode"]).ok()?;
            Some(if mode == Some(r#""url""#) { ClientFeature::Url } else { ClientFeature::Form })
        }
        _ => None,
    }
}

impl ServerRequest {
    /// Reads a request of an upstream for input; `None` for other requests.
    pub(super) fn of(method: &str, params: Option<&str>, id: &str) -> Option<Self> {
        let params = params.unwrap_or("{}");
        feature(method, params)?;
        Some(Self { id: id.into(), method: Method::parse(method)?, params: params.into() })
    }

    /// Whether a client with these capabilities can be asked it.
    pub(super) fn is_covered_by(&self, declared: Capabilities) -> bool {
        feature(self.method.as_str(), &self.params).is_some_and(|feature| declared.cover(feature))
    }
}

/// Refuses a request that the client cannot be asked.
pub(super) fn refusal(method: &str, id: &str) -> Bytes {
    if method == Method::ElicitationCreate.as_str() {
        return format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"action":"cancel"}}}}"#).into();
    }
    codes::render(Some(id), codes::METHOD_NOT_FOUND, "this client does not support this request", None)
}
