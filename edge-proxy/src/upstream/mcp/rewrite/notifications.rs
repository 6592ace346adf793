//! Translates notifications of an upstream: progress and cancellations are under the numbers of its session, and what
//! names a resource is for those who may read it.
//!
//! It must not know eras.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::Bytes;
use mcp::border::ids;
use mcp::json::{self, JsonError};
use mcp::message::{Envelope, span};
use mcp::method::{Method, Sender};
use mcp::splice::Splice;

/// Where methods about resources begin, those that the protocol does not define included.
const OF_RESOURCES: &str = "notifications/resources/";

/// Translates a notification that is not about one request or task; `None` for what the client is not to be told.
///
/// Clients are told of changed lists by the edge itself, from the snapshot. What names a resource in `params.uri` is
/// relayed under the URI that the client knows, if `readable` returns one for the upstream's. What the protocol does not
/// define is relayed as it is, unless it names resources: vendors have notifications of their own.
pub(in crate::upstream::mcp) fn general(
    message: &Bytes,
    envelope: &Envelope<'_>,
    readable: impl FnOnce(&str) -> Option<Box<str>>,
) -> Result<Option<Bytes>, JsonError> {
    let name = envelope.method.as_deref().unwrap_or_default();
    match Method::parse(name) {
        Some(Method::ToolsListChanged | Method::PromptsListChanged | Method::ResourcesListChanged) => {
            Ok(None)
        }
        // These are about the streams of subscriptions, which the edge reads itself.
        Some(Method::SubscriptionsAcknowledged | Method::TasksChanged) => Ok(None),
        Some(method) if method.sender() == Sender::Client => Ok(None),
        Some(Method::Message | Method::ElicitationComplete) => Ok(Some(message.clone())),
        _ => {
            let params = envelope.params.filter(|params| params.starts_with('{'));
            let [uri] = json::members(params.unwrap_or("{}"), ["uri"])?;
            match uri {
                None if name.starts_with(OF_RESOURCES) => Ok(None),
                None => Ok(Some(message.clone())),
                Some(raw) => {
                    let Some(exposed) = json::string(raw).ok().and_then(|uri| readable(&uri)) else {
                        return Ok(None);
                    };
                    let edits = Splice::new().replace(span(message, raw), json::quote(&exposed));
                    Ok(Some(edits.apply(message)))
                }
            }
        }
    }
}

/// Returns progress under the raw token that the client gave its call; `None` for that of another call.
pub(in crate::upstream::mcp) fn own_progress(
    message: &Bytes,
    envelope: &Envelope<'_>,
    token: Option<&Bytes>,
) -> Result<Option<Bytes>, JsonError> {
    let [raw] = json::members(envelope.params.unwrap_or("{}"), ["progressToken"])?;
    let own = token.and_then(|token| std::str::from_utf8(token).ok());
    let Some((raw, own)) = raw.zip(own) else { return Ok(None) };
    if raw == own {
        return Ok(Some(message.clone()));
    }
    let is_own = same_string(raw, own) || ids::same(raw, own).is_some();
    Ok(is_own.then(|| Splice::new().replace(span(message, raw), own).apply(message)))
}

/// Whether two raw values are the same string, however it is escaped.
fn same_string(first: &str, second: &str) -> bool {
    let string = |raw| json::string(raw).ok();
    string(first).is_some_and(|first: Cow<'_, str>| string(second).is_some_and(|second| first == second))
}

/// Gives the progress of the call with the token `number` the client's raw token; `None` for progress that the client did
/// not ask for.
pub(in crate::upstream::mcp) fn progress(
    message: &Bytes,
    envelope: &Envelope<'_>,
    number: u64,
    token: Option<&Bytes>,
) -> Result<Option<Bytes>, JsonError> {
    let [raw] = json::members(envelope.params.unwrap_or("{}"), ["progressToken"])?;
    let raw = raw.filter(|raw| ids::denotes(raw, number).is_some());
    Ok(raw
        .zip(token)
        .map(|(raw, token)| Splice::new().replace(span(message, raw), token.clone()).apply(message)))
}

/// Translates the cancellation of a server request, of which `sent` has the upstream's raw id and the client's; `None` for
/// requests of another call of the session.
pub(in crate::upstream::mcp) fn cancelled(
    message: &Bytes,
    envelope: &Envelope<'_>,
    sent: &VecDeque<(Box<str>, String)>,
) -> Result<Option<Bytes>, JsonError> {
    let [raw] = json::members(envelope.params.unwrap_or("{}"), ["requestId"])?;
    let Some(raw) = raw else { return Ok(None) };
    let known = ids::find(raw, sent.iter().map(|(theirs, ours)| (&**theirs, ours)));
    Ok(known.map(|ours| Splice::new().replace(span(message, raw), json::quote(ours)).apply(message)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn general_of(text: &str, readable: impl FnOnce(&str) -> Option<Box<str>>) -> Option<String> {
        let message = Bytes::from(text.to_owned());
        let translated = general(&message, &Envelope::parse(&message).unwrap(), readable).unwrap();
        translated.map(|message| String::from_utf8(message.to_vec()).unwrap())
    }

    fn notification(method: &str, params: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
    }

    #[test]
    fn what_names_a_resource_is_for_those_who_may_read_it() {
        let readable = |uri: &str| (uri == "file:///a").then(|| "u+file:///a".into());
        for method in ["notifications/resources/updated", "notifications/resources/touched", "vendor/looked"]
        {
            let known = general_of(&notification(method, r#"{"uri":"file:///a","more":[1]}"#), readable);
            assert_eq!(known, Some(notification(method, r#"{"uri":"u+file:///a","more":[1]}"#)), "{method}");
            for hidden in [r#"{"uri":"file:///b"}"#, r#"{"uri":1}"#, r#"{"uri":null}"#] {
                assert_eq!(general_of(&notification(method, hidden), readable), None, "{method} {hidden}");
            }
        }
        assert_eq!(general_of(&notification("notifications/resources/touched", "{}"), readable), None);
    }

    #[test]
    fn every_method_of_the_protocol_is_decided() {
        let relayed = |name: &str| general_of(&notification(name, "{}"), |_| None).is_some();
        let notifications =
            Method::ALL.iter().filter(|method| method.form() == mcp::method::Form::Notification);
        let relayed: Vec<_> = notifications.filter(|method| relayed(method.as_str())).collect();
        // Cancellations, progress and the status of tasks are translated before.
        let expected = [
            Method::Cancelled,
            Method::Progress,
            Method::Message,
            Method::TasksStatus,
            Method::ElicitationComplete,
        ];
        assert_eq!(relayed, expected.iter().collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn what_a_vendor_adds_is_relayed_as_it_is(method in "[a-z]{1,8}/[a-z]{1,8}", params in "(\\{\"a\":\\{\"uri\":\"x\"\\}\\}|\\{\\})") {
            prop_assume!(Method::parse(&method).is_none());
            let text = notification(&method, &params);
            prop_assert_eq!(general_of(&text, |_| None), Some(text));
        }

        #[test]
        fn progress_is_relayed_under_the_token_of_the_call_alone(own: String, other: String) {
            let token = Bytes::from(json::quote(&own));
            for (named, expected) in [(&own, true), (&other, own == other)] {
                let text = notification("notifications/progress", &format!(r#"{{"progressToken":{}}}"#, json::quote(named)));
                let message = Bytes::from(text);
                let envelope = Envelope::parse(&message).unwrap();
                prop_assert_eq!(own_progress(&message, &envelope, Some(&token)).unwrap().is_some(), expected);
                prop_assert!(own_progress(&message, &envelope, None).unwrap().is_none());
            }
        }
    }
}
