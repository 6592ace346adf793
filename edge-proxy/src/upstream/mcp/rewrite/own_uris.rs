//! Translates URIs that a client was told by the names of its server back into the upstream's own, where it hands them on: in the
//! arguments of a call, and in its responses to requests for input.
//!
//! Only a string that is such a URI as a whole is translated, and only where nothing else can be meant: text that mentions one
//! keeps every byte. It must not know what a server exposes.

use bytes::Bytes;
use mcp::json::{self, JsonError};
use mcp::message::span;
use mcp::method::Method;
use mcp::splice::Splice;

use crate::transport::Message;

/// Strings that are looked up in one message, and the longest one, in bytes; others stay as they are.
const MAX_LOOKED_UP: usize = 64;
const MAX_URI: usize = 2 << 10;
/// Longest part before the colon of a URI: the id of an upstream, and the scheme.
const MAX_SCHEME: usize = 128;
/// Levels of objects and arrays that are looked into.
const MAX_DEPTH: usize = 8;
/// The member of a request with the client's responses to requests for input.
const INPUT_RESPONSES: &str = "inputResponses";

/// Returns a client's request with the upstream's own URIs, which `own` knows; `None` for one that names none.
pub(in crate::upstream::mcp) fn in_request(
    message: &Message<'_>,
    method: Method,
    own: impl FnMut(&str) -> Option<Box<str>>,
) -> Option<Bytes> {
    if !matches!(method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead) {
        return None;
    }
    let mut uris = OwnUris { message: message.body, edits: Some(Splice::new()), own, looked_up: 0 };
    // What cannot be read is refused where it is read.
    uris.request(message).ok()?;
    uris.edits.filter(|edits| !edits.is_empty()).map(|edits| edits.apply(message.body))
}

/// Translates the URIs in a client's response with this raw result.
pub(in crate::upstream::mcp) fn in_response<'a>(
    edits: Splice<'a>,
    body: &Bytes,
    result: Option<&str>,
    own: impl FnMut(&str) -> Option<Box<str>>,
) -> Splice<'a> {
    let before = edits.clone();
    let mut uris = OwnUris { message: body, edits: Some(edits), own, looked_up: 0 };
    match uris.response(result.unwrap_or_default()) {
        Ok(()) => uris.edits.unwrap_or(before),
        Err(_) => before,
    }
}

/// The URIs of one message while they are translated.
struct OwnUris<'m, 'a, F> {
    message: &'m Bytes,
    edits: Option<Splice<'a>>,
    own: F,
    looked_up: usize,
}

impl<F: FnMut(&str) -> Option<Box<str>>> OwnUris<'_, '_, F> {
    /// Translates those in the arguments of a request, and in the responses that it brings.
    fn request(&mut self, message: &Message<'_>) -> Result<(), JsonError> {
        self.value(message.params.arguments.unwrap_or_default(), 0)?;
        let [responses] = json::members(message.envelope.params.unwrap_or("{}"), [INPUT_RESPONSES])?;
        let responses = responses.filter(|raw| raw.starts_with('{')).unwrap_or("{}");
        json::each_member(responses, |_, response| self.response(response))
    }

    /// Translates those in what a client responds: the content of an elicitation, or of a sampled message.
    fn response(&mut self, response: &str) -> Result<(), JsonError> {
        let response = if response.starts_with('{') { response } else { "{}" };
        let [content] = json::members(response, ["content"])?;
        self.value(content.unwrap_or_default(), 0)
    }

    /// Translates those in a raw value.
    fn value(&mut self, raw: &str, depth: usize) -> Result<(), JsonError> {
        match raw.as_bytes().first() {
            Some(b'"') => self.text(raw),
            Some(b'{') if depth < MAX_DEPTH => {
                json::each_member(raw, |_, member| self.value(member, depth + 1))?;
            }
            Some(b'[') if depth < MAX_DEPTH => {
                json::each_element(raw, |element| self.value(element, depth + 1))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Translates a raw string, if it is one.
    fn text(&mut self, raw: &str) {
        if raw.len() > MAX_URI || self.looked_up >= MAX_LOOKED_UP || !has_scheme(raw) {
            return;
        }
        let Ok(text) = json::string(raw) else { return };
        self.looked_up += 1;
        if let Some(own) = (self.own)(&text) {
            let at = span(self.message, raw);
            self.edits = self.edits.take().map(|edits| edits.replace(at, json::quote(&own)));
        }
    }
}

/// Whether a raw string begins as a URI does, or with the id of an upstream before that.
fn has_scheme(raw: &str) -> bool {
    let text = raw.as_bytes().get(1..).unwrap_or_default();
    let of_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._".contains(byte);
    let length = text.iter().take(MAX_SCHEME).take_while(|byte| of_scheme(byte)).count();
    length > 0 && text.get(length) == Some(&b':')
}

#[cfg(test)]
mod tests {
    use mcp::message::Envelope;
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorContext;

    fn own(text: &str) -> Option<Box<str>> {
        text.strip_prefix("u+").map(Into::into)
    }

    fn translated(method: Method, params: &str) -> Option<String> {
        let body =
            Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#));
        let envelope = Envelope::parse(&body).unwrap();
        let message = Message::new(&body, envelope, &mut ErrorContext::default()).unwrap();
        let translated = String::from_utf8(in_request(&message, method, own)?.to_vec()).unwrap();
        let rest = translated.split_once(r#""params":"#).unwrap().1;
        Some(rest.strip_suffix('}').unwrap().to_owned())
    }

    #[test]
    fn what_is_a_uri_as_a_whole_is_translated_wherever_a_client_hands_it_on() {
        for (given, sent) in [
            (
                r#"{"name":"t","arguments":{"uri":"u+f:///a"}}"#,
                r#"{"name":"t","arguments":{"uri":"f:///a"}}"#,
            ),
            (
                r#"{"name":"t","arguments":{"a":{"b":[1.0,"u+f:///a",{"c":"u+f:///b"}]}}}"#,
                r#"{"name":"t","arguments":{"a":{"b":[1.0,"f:///a",{"c":"f:///b"}]}}}"#,
            ),
            (
                r#"{"name":"t","arguments":{"u":"u+f:\/\/\/\u0061"}}"#,
                r#"{"name":"t","arguments":{"u":"f:///a"}}"#,
            ),
            (
                r#"{"name":"t","inputResponses":{"k":{"action":"accept","content":{"x":"u+f:///a"}}}}"#,
                r#"{"name":"t","inputResponses":{"k":{"action":"accept","content":{"x":"f:///a"}}}}"#,
            ),
            (
                r#"{"name":"t","inputResponses":{"k":{"content":[{"type":"tool_use","input":{"x":"u+f:///a"}}]}}}"#,
                r#"{"name":"t","inputResponses":{"k":{"content":[{"type":"tool_use","input":{"x":"f:///a"}}]}}}"#,
            ),
        ] {
            assert_eq!(translated(Method::ToolsCall, given).as_deref(), Some(sent));
        }
    }

    #[test]
    fn everything_else_keeps_every_byte() {
        let deep =
            format!(r#"{{"name":"t","arguments":{}"u+f:///a"{}}}"#, r#"{"a":"#.repeat(9), "}".repeat(9));
        let long = format!(r#"{{"name":"t","arguments":{{"a":"u+f:///{}"}}}}"#, "a".repeat(MAX_URI));
        for kept in [
            r#"{"name":"t","arguments":{"text":"see u+f:///a"}}"#,
            r#"{"name":"t","arguments":{"u+f:///a":1}}"#,
            r#"{"name":"t","arguments":{"a":" u+f:///a"}}"#,
            r#"{"name":"t","arguments":{"a":"u+"}}"#,
            r#"{"name":"u+f:///a"}"#,
            r#"{"name":"t","_meta":{"x":"u+f:///a"}}"#,
            r#"{"name":"t","inputResponses":{"k":{"action":"u+f:///a"},"l":7}}"#,
            &deep,
            &long,
        ] {
            assert_eq!(translated(Method::ToolsCall, kept), None, "{kept}");
        }
        let read = r#"{"uri":"u+f:///a","name":"t"}"#;
        assert_eq!(translated(Method::ResourcesRead, read), None);
        assert_eq!(translated(Method::TasksGet, r#"{"arguments":{"a":"u+f:///a"}}"#), None);
    }

    #[test]
    fn what_is_looked_up_is_bounded() {
        let many = vec![r#""u+f:///a""#; MAX_LOOKED_UP + 5].join(",");
        let sent = translated(Method::ToolsCall, &format!(r#"{{"name":"t","arguments":{{"a":[{many}]}}}}"#));
        assert_eq!(sent.unwrap().matches("u+f:///a").count(), 5);
    }

    proptest! {
        #[test]
        fn junk_does_not_panic(body in "[\\[\\]{}\":,a+/u.0-9 ]{0,60}") {
            let body = Bytes::from(body);
            let text = std::str::from_utf8(&body).unwrap();
            let _: Bytes = in_response(Splice::new(), &body, Some(text), own).apply(&body);
        }
    }
}
