//! JSON-RPC error codes of the protocol, and how an error response is written.
//!
//! Codes of our own do not belong here.

use bytes::Bytes;

use crate::json::quote;

/// Not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// JSON, but not a message.
pub const INVALID_REQUEST: i64 = -32600;
/// The method is not implemented.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The parameters do not fit the method; also an unknown tool, prompt or (since 2026-07-28) resource.
pub const INVALID_PARAMS: i64 = -32602;
/// Something else went wrong.
pub const INTERNAL_ERROR: i64 = -32603;
/// No such resource, up to 2025-11-25.
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// A header is missing, malformed or does not say what the body says.
pub const HEADER_MISMATCH: i64 = -32020;
/// The request needs a capability that the client did not declare.
pub const MISSING_CAPABILITY: i64 = -32021;
/// The request is of a revision that the server does not speak.
pub const UNSUPPORTED_VERSION: i64 = -32022;
/// The user must visit a URL first; 2025-11-25 only.
pub const URL_ELICITATION_REQUIRED: i64 = -32042;

/// An error response. `id` and `data` are raw JSON; without an id the member is left out, as the schema asks.
#[must_use]
pub fn render(id: Option<&str>, code: i64, message: &str, data: Option<&str>) -> Bytes {
    let mut out = String::with_capacity(96 + message.len() + data.map_or(0, str::len));
    out.push_str(r#"{"jsonrpc":"2.0","#);
    if let Some(id) = id {
        out.push_str(r#""id":"#);
        out.push_str(id);
        out.push(',');
    }
    out.push_str(r#""error":{"code":"#);
    out.push_str(&code.to_string());
    out.push_str(r#","message":"#);
    out.push_str(&quote(message));
    if let Some(data) = data {
        out.push_str(r#","data":"#);
        out.push_str(data);
    }
    out.push_str("}}");
    out.into()
}
