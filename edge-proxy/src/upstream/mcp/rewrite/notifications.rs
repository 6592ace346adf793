//! Translates notifications of an upstream: progress and cancellations are under the numbers of its session.
//!
//! It must not know eras.

use bytes::Bytes;
use mcp::json::{self, JsonError};
use mcp::message::{Envelope, span};
use mcp::splice::Splice;

/// Gives the progress of the call with the token `number` the client's raw token; `None` for progress that the client did
/// not ask for.
pub(in crate::upstream::mcp) fn progress(
    message: &Bytes,
    envelope: &Envelope<'_>,
    number: u64,
    token: Option<&Bytes>,
) -> Result<Option<Bytes>, JsonError> {
    let [raw] = json::members(envelope.params.unwrap_or("{}"), ["progressToken"])?;
    let raw = raw.filter(|raw| raw.parse() == Ok(number));
    Ok(raw
        .zip(token)
        .map(|(raw, token)| Splice::new().replace(span(message, raw), token.clone()).apply(message)))
}

/// Translates the cancellation of a server request, of which `sent` has the upstream's raw id and the client's; `None` for
/// requests of another call of the session.
pub(in crate::upstream::mcp) fn cancelled(
    message: &Bytes,
    envelope: &Envelope<'_>,
    sent: &[(Box<str>, String)],
) -> Result<Option<Bytes>, JsonError> {
    let [raw] = json::members(envelope.params.unwrap_or("{}"), ["requestId"])?;
    let Some(raw) = raw else { return Ok(None) };
    let known = sent.iter().find(|(theirs, _)| **theirs == *raw);
    Ok(known.map(|(_, ours)| Splice::new().replace(span(message, raw), json::quote(ours)).apply(message)))
}
