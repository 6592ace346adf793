//! What a server may ask a client in the middle of a call, in either era: elicitation, sampling, roots.
//!
//! It must not know how it is asked.

use bytes::Bytes;
use mcp::error as codes;
use mcp::json;
use mcp::method::Method;

use crate::session::capabilities::{Capabilities, Need};

/// A question of a legacy upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct Question {
    /// The raw id of the upstream's request.
    pub id: Box<str>,
    /// What is asked for.
    pub method: Method,
    /// Its raw params.
    pub params: Box<str>,
}

/// Whether an upstream may ask in the middle of a call of this method.
pub(super) fn may_ask(method: Method) -> bool {
    matches!(method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead)
}

/// What a client must be able to do to be asked this; `None` where no client can be asked it.
pub(super) fn need(method: &str, params: &str) -> Option<Need> {
    match Method::parse(method)? {
        Method::RootsList => Some(Need::Roots),
        Method::SamplingCreateMessage => Some(Need::Sampling),
        Method::ElicitationCreate => {
            let [mode] = json::members(params, ["mode"]).ok()?;
            Some(if mode == Some(r#""url""#) { Need::Url } else { Need::Form })
        }
        _ => None,
    }
}

impl Question {
    /// The question that a request of an upstream is, if it is one.
    pub(super) fn of(method: &str, params: Option<&str>, id: &str) -> Option<Self> {
        let params = params.unwrap_or("{}");
        need(method, params)?;
        Some(Self { id: id.into(), method: Method::parse(method)?, params: params.into() })
    }

    /// Whether a client that declared these can be asked.
    pub(super) fn is_covered_by(&self, declared: Capabilities) -> bool {
        need(self.method.as_str(), &self.params).is_some_and(|need| declared.cover(need))
    }
}

/// What an upstream is told that asks what no client can be asked here.
pub(in crate::upstream) fn refusal(method: &str, id: &str) -> Bytes {
    if method == Method::ElicitationCreate.as_str() {
        return format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"action":"cancel"}}}}"#).into();
    }
    codes::render(Some(id), codes::METHOD_NOT_FOUND, "this client cannot be asked that", None)
}
