//! What is sent of a call that was approved: nothing but what was shown to whoever approved it, and what the protocol itself puts beside
//! that. It must not know who approves.

use std::borrow::Cow;

use bytes::Bytes;
use mcp::json::{self, JsonError};
use mcp::message::span;
use mcp::meta::{self, BAGGAGE, META, PROGRESS_TOKEN, TRACEPARENT, TRACESTATE};
use mcp::splice::Splice;

use crate::error::Failure;
use crate::transport::Message;

/// The message without what its approver does not see: answers to questions that nobody asked, states of other calls, and members of
/// params and of `_meta` that the protocol does not know.
///
/// # Errors
/// If its params are no object.
pub(super) fn as_shown(message: &Message<'_>) -> Result<Bytes, Failure> {
    let params = message.envelope.params.unwrap_or("{}");
    let shown = only(params, |name, value| match name {
        "name" | "arguments" => Ok(Some(value.into())),
        "task" if value.starts_with('{') => {
            only(value, |name, value| Ok((name == "ttl").then(|| value.into()))).map(Some)
        }
        META if value.starts_with('{') => {
            only(value, |key, value| Ok(is_of_protocol(key).then(|| value.into()))).map(Some)
        }
        _ => Ok(None),
    });
    match shown.map_err(|error| Failure::Invalid(format!("params: {error}")))? {
        Cow::Borrowed(_) => Ok(message.body.clone()),
        Cow::Owned(shown) => Ok(Splice::new().replace(span(message.body, params), shown).apply(message.body)),
    }
}

fn is_of_protocol(key: &str) -> bool {
    key.starts_with(meta::RESERVED) || matches!(key, PROGRESS_TOKEN | TRACEPARENT | TRACESTATE | BAGGAGE)
}

/// The object with what `keep` makes of its members. Borrowed: nothing of it was changed.
fn only<'a>(
    object: &'a str,
    keep: impl Fn(&str, &'a str) -> Result<Option<Cow<'a, str>>, JsonError>,
) -> Result<Cow<'a, str>, JsonError> {
    let (mut members, mut is_whole) = (Vec::new(), true);
    json::each_member(object, |key, value| {
        let kept = keep(&json::string(key)?, value)?;
        is_whole &= matches!(kept, Some(Cow::Borrowed(_)));
        members.extend(kept.map(|kept| format!("{key}:{kept}")));
        Ok(())
    })?;
    Ok(if is_whole { object.into() } else { format!("{{{}}}", members.join(",")).into() })
}

#[cfg(test)]
mod tests {
    use mcp::message::Envelope;

    use super::*;
    use crate::error::ErrorContext;

    fn shown(params: &str) -> String {
        let around =
            |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let body = Bytes::from(around(params));
        let envelope = Envelope::parse(&body).unwrap();
        let message = Message::new(&body, envelope, &mut ErrorContext::default()).unwrap();
        let sent = String::from_utf8(as_shown(&message).unwrap().to_vec()).unwrap();
        let (before, after) = around("|").split_once('|').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        sent.strip_prefix(&before).and_then(|rest| rest.strip_suffix(&after)).unwrap().to_owned()
    }

    #[test]
    fn what_the_protocol_knows_stays_as_it_is() {
        for params in [
            r#"{ "name" : "t" }"#,
            r#"{"n\u0061me":"t", "arguments":{"a": 1},"task":{"ttl":1 }}"#,
            r#"{"name":"t","_meta":{"progressToken":1, "io.modelcontextprotocol/clientInfo":{"x":1},"traceparent":"a","tracestate":"b","baggage":"c"}}"#,
        ] {
            assert_eq!(shown(params), params);
        }
    }

    #[test]
    fn everything_else_is_taken_out() {
        for (params, expected) in [
            (
                r#"{"x":{"force":true},"name":"t","inputResponses":{"k":{}},"arguments":{"x":1},"requestState":"s"}"#,
                r#"{"name":"t","arguments":{"x":1}}"#,
            ),
            (
                r#"{"name":"t","task":{"ttl":1,"force":true},"_meta":{"com.x/force":true,"progressToken":1}}"#,
                r#"{"name":"t","task":{"ttl":1},"_meta":{"progressToken":1}}"#,
            ),
            (r#"{"name":"t","_meta":{"io.modelcontextprotocol":1,"x":1}}"#, r#"{"name":"t","_meta":{}}"#),
            (r#"{"name":"t","_meta":[1]}"#, r#"{"name":"t"}"#),
            (r#"{"x":1,"x":2,"name":"t"}"#, r#"{"name":"t"}"#),
        ] {
            assert_eq!(shown(params), expected);
        }
    }
}
