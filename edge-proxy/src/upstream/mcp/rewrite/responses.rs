//! Responses: their ids, and errors that are forwarded as the upstream wrote them.

use bytes::Bytes;
use mcp::error as codes;
use mcp::json;
use mcp::message::{Envelope, span};
use mcp::splice::Splice;

use super::apply;
use crate::error::Fault;
use crate::upstream::mcp::outcome::outcome_of_code;
use crate::upstream::mcp::{MAX_KEPT, malformed};
use crate::usage::Outcome;

/// Builds a response with this raw id, whose `member` is `result` or `error`.
pub(in crate::upstream::mcp) fn render(id: &[u8], member: &str, value: &str) -> Bytes {
    let parts: [&[u8]; 7] =
        [br#"{"jsonrpc":"2.0","id":"#, id, b",\"", member.as_bytes(), b"\":", value.as_bytes(), b"}"];
    parts.concat().into()
}

/// Refuses a request of an upstream whose raw id is too long to be kept: it would be held for the whole call, and sealed
/// into the id that the client is given. The refusal carries no id.
pub(in crate::upstream::mcp) fn refuse_long_id(id: &str) -> Option<Bytes> {
    let text = format!("the id is longer than {MAX_KEPT} bytes");
    (id.len() > MAX_KEPT).then(|| codes::render(None, codes::INVALID_REQUEST, &text, None))
}

/// Builds the response to a ping.
pub(in crate::upstream::mcp) fn pong(id: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#).into()
}

/// Returns the raw id and the result of a response to the call.
pub(in crate::upstream::mcp) fn own_result<'a>(
    envelope: &Envelope<'a>,
    is_own: impl Fn(&str) -> bool,
) -> Result<(&'a str, &'a str), Fault> {
    let (Some(id), Some(result)) = (envelope.id, envelope.result) else {
        return Err(Fault::Malformed("a response without a result".to_owned()));
    };
    if !is_own(id) {
        return Err(Fault::Malformed("a response with the id of no request".to_owned()));
    }
    Ok((id, result))
}

/// A response to the call.
pub(in crate::upstream::mcp) enum OwnResponse<'a> {
    /// A result.
    Result {
        /// The raw id of the response.
        id: &'a str,
        /// The raw result.
        result: &'a str,
    },
    /// A raw error, with the id of the call or with none.
    Error(&'a str),
}

/// Reads a response to the call. `is_own` is whether a raw id is that of the call.
pub(in crate::upstream::mcp) fn own_response<'a>(
    envelope: &Envelope<'a>,
    is_own: impl Fn(&str) -> bool,
) -> Result<OwnResponse<'a>, Fault> {
    let id = envelope.id.filter(|id| is_own(id));
    match (envelope.error, id, envelope.result) {
        (Some(_), None, _) if envelope.id.is_some() => {
            Err(Fault::Malformed("an error with the id of no request".to_owned()))
        }
        (Some(error), ..) => Ok(OwnResponse::Error(error)),
        (None, Some(id), Some(result)) => Ok(OwnResponse::Result { id, result }),
        (None, ..) => Err(Fault::Malformed("a response with the id of no request".to_owned())),
    }
}

/// Reads the code of a raw error.
pub(in crate::upstream::mcp) fn code_of(error: &str) -> Result<i64, Fault> {
    let [code] = json::members(error, ["code"]).map_err(malformed)?;
    Ok(code.and_then(|code| code.parse().ok()).unwrap_or(codes::INTERNAL_ERROR))
}

/// Refuses errors that are about the edge's own request, and not about the client's.
pub(in crate::upstream::mcp) fn refuse_own_fault(code: i64) -> Result<(), Fault> {
    match code {
        codes::HEADER_MISMATCH | codes::UNSUPPORTED_VERSION => {
            Err(Fault::Malformed(format!("it rejects the headers or the revision ({code})")))
        }
        _ => Ok(()),
    }
}

/// Forwards an error as the upstream wrote it, with the client's id. `is_own` is whether its id, if it has one, is that
/// of the call.
pub(in crate::upstream::mcp) fn forward_error(
    message: &Bytes,
    envelope: &Envelope<'_>,
    error: &str,
    is_own: Option<bool>,
    id: &Bytes,
) -> Result<(Bytes, Outcome), Fault> {
    let code = code_of(error)?;
    refuse_own_fault(code)?;
    let outcome = outcome_of_code(code);
    match (envelope.id, is_own) {
        (Some(theirs), Some(true)) => {
            let edits = Splice::new().replace(span(message, theirs), id.clone());
            Ok((apply(edits, message), outcome))
        }
        (Some(_), _) => Err(Fault::Malformed("an error with the id of no request".to_owned())),
        (None, _) => Ok((render(id, "error", error), outcome)),
    }
}
