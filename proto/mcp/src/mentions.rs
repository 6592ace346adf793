//! The URIs of resources that results mention, and their translation, so that a client can read what it is handed: a link, an
//! embedded resource, the page of an app.
//!
//! Only what stands where the protocol, or a convention of the field, has a URI is looked at, and only what a server exposes is
//! translated: text and structured content keep every byte. It must not know what a server exposes.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memmem;

use crate::json::{self, JsonError};
use crate::message::span;
use crate::meta;
use crate::method::Method;
use crate::splice::Splice;

/// Adds to the edits of a message the translation of the URIs that its `result`, a part of it, mentions, as far as `exposed` knows them.
///
/// # Errors
/// When the result is not JSON, or has a member twice that is looked at.
pub fn in_result<'a>(
    edits: Splice<'a>,
    message: &Bytes,
    result: &str,
    method: Method,
    exposed: impl FnMut(&str) -> Option<Box<str>>,
) -> Result<Splice<'a>, JsonError> {
    // Every place of a URI has this in its name or beside it: resource_link, resource, resourceUri; or is a template.
    let has = |word: &[u8]| memmem::find(result.as_bytes(), word).is_some();
    if !has(b"esource") && !has(TEMPLATE.as_bytes()) {
        return Ok(edits);
    }
    let mut mentions = Mentions { message, edits: Some(edits), exposed };
    if has(INPUT_REQUESTS.as_bytes()) {
        let [requests] = json::members(result, [INPUT_REQUESTS])?;
        json::each_member(requests.filter(|raw| raw.starts_with('{')).unwrap_or("{}"), |_, request| {
            if request.starts_with('{') { mentions.input_request(request) } else { Ok(()) }
        })?;
    }
    match method {
        Method::ToolsCall | Method::TasksResult => {
            let [content, meta] = json::members(result, ["content", meta::META])?;
            mentions.blocks(content)?;
            mentions.meta(meta)?;
        }
        Method::PromptsGet => {
            let [messages] = json::members(result, ["messages"])?;
            mentions.messages(messages)?;
        }
        Method::ResourcesRead => {
            let [contents] = json::members(result, ["contents"])?;
            each_object(contents, |content| {
                let [meta] = json::members(content, [meta::META])?;
                mentions.meta(meta)
            })?;
        }
        _ => {}
    }
    Ok(mentions.edits.unwrap_or_default())
}

/// The same for the `params` of a sampling request.
///
/// # Errors
/// As [`in_result`].
pub fn in_sampling<'a>(
    edits: Splice<'a>,
    message: &Bytes,
    params: &str,
    exposed: impl FnMut(&str) -> Option<Box<str>>,
) -> Result<Splice<'a>, JsonError> {
    if memmem::find(params.as_bytes(), b"esource").is_none() {
        return Ok(edits);
    }
    let mut mentions = Mentions { message, edits: Some(edits), exposed };
    let [messages] = json::members(params, ["messages"])?;
    mentions.messages(messages)?;
    Ok(mentions.edits.unwrap_or_default())
}

/// Members of `_meta` that name the page of an app.
const RESOURCE_URI: &str = "ui/resourceUri";
const TEMPLATE: &str = "openai/outputTemplate";
/// The member of a result that requires input, with requests to the client.
const INPUT_REQUESTS: &str = "inputRequests";

/// The URIs of one message while they are translated.
struct Mentions<'m, 'a, F> {
    message: &'m Bytes,
    edits: Option<Splice<'a>>,
    exposed: F,
}

impl<F: FnMut(&str) -> Option<Box<str>>> Mentions<'_, '_, F> {
    /// Translates those in a request for input, if it has messages.
    fn input_request(&mut self, request: &str) -> Result<(), JsonError> {
        let [method, params] = json::members(request, ["method", "params"])?;
        let is_sampling = method
            .and_then(|raw| json::string(raw).ok())
            .is_some_and(|method| method == Method::SamplingCreateMessage.as_str());
        let params = params.filter(|params| is_sampling && params.starts_with('{'));
        let [messages] = json::members(params.unwrap_or("{}"), ["messages"])?;
        self.messages(messages)
    }

    /// Translates those in a list of messages.
    fn messages(&mut self, list: Option<&str>) -> Result<(), JsonError> {
        each_object(list, |message| {
            let [content] = json::members(message, ["content"])?;
            self.blocks(content)
        })
    }

    /// Translates those in a block of content or a list of blocks.
    fn blocks(&mut self, blocks: Option<&str>) -> Result<(), JsonError> {
        each_object(blocks, |block| {
            let [kind, uri, resource, meta] = json::members(block, ["type", "uri", "resource", meta::META])?;
            match kind {
                Some(r#""resource_link""#) => self.uri(uri),
                Some(r#""resource""#) => {
                    let embedded = resource.filter(|resource| resource.starts_with('{'));
                    let [uri, meta] = json::members(embedded.unwrap_or("{}"), ["uri", meta::META])?;
                    self.uri(uri);
                    self.meta(meta)?;
                }
                _ => {}
            }
            self.meta(meta)
        })
    }

    /// Translates those in metadata.
    fn meta(&mut self, meta: Option<&str>) -> Result<(), JsonError> {
        let Some(meta) = meta.filter(|meta| meta.starts_with('{')) else { return Ok(()) };
        let [ui, resource, template] = json::members(meta, ["ui", RESOURCE_URI, TEMPLATE])?;
        let ui = ui.filter(|ui| ui.starts_with('{')).unwrap_or("{}");
        let [nested] = json::members(ui, ["resourceUri"])?;
        [nested, resource, template].into_iter().for_each(|uri| self.uri(uri));
        Ok(())
    }

    /// Translates one, given raw.
    fn uri(&mut self, raw: Option<&str>) {
        let Some(raw) = raw.filter(|raw| raw.starts_with('"')) else { return };
        let Ok(uri) = json::string(raw) else { return };
        let uri: Cow<'_, str> = uri;
        if let Some(exposed) = (self.exposed)(&uri).filter(|exposed| **exposed != *uri) {
            let at = span(self.message, raw);
            self.edits = self.edits.take().map(|edits| edits.replace(at, json::quote(&exposed)));
        }
    }
}

/// Calls `visit` with the object that `raw` is, or with the objects in its array.
fn each_object<'a>(
    raw: Option<&'a str>,
    mut visit: impl FnMut(&'a str) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    match raw {
        Some(object) if object.starts_with('{') => visit(object),
        Some(array) if array.starts_with('[') => {
            json::each_element(
                array,
                |element| {
                    if element.starts_with('{') { visit(element) } else { Ok(()) }
                },
            )
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Exposes what begins with `docs:` or `ui:`, as a server with the prefix `u+` does.
    fn exposed(uri: &str) -> Option<Box<str>> {
        match uri.split_once("://") {
            Some(("docs", _)) => Some(format!("u+{uri}").into()),
            Some(("ui", rest)) => Some(format!("ui://u/{rest}").into()),
            _ => None,
        }
    }

    fn translate(result: &str, method: Method) -> String {
        let message: Bytes = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#).into();
        let at = message.len() - result.len() - 1;
        let result = std::str::from_utf8(&message[at..message.len() - 1]).unwrap();
        let edits = in_result(Splice::new(), &message, result, method, exposed).unwrap();
        let translated = String::from_utf8(edits.apply(&message).to_vec()).unwrap();
        translated[at..translated.len() - 1].to_owned()
    }

    #[test]
    fn what_is_a_uri_is_translated_and_every_other_byte_stays() {
        let blocks = |docs: &str, ui: &str| {
            format!(
                r#"[{{"type":"resource_link", "uri":"{docs}","name":"docs://a","_meta":{{"ui":{{"resourceUri":"{ui}"}}}}}},
                {{"type":"resource","resource":{{"uri" : "{docs}","text":"docs://a","_meta":{{"ui/resourceUri":"{ui}"}}}}}},
                {{"type":"text","text":"docs://a"}},{{"type":"resource_link","uri":"https://elsewhere/x"}},
                {{"type":"resource_link","uri":7}},{{"type":"resource","resource":"docs://a"}},"docs://a",1e400]"#
            )
        };
        let tool = |docs: &str, ui: &str| {
            let content = blocks(docs, ui);
            format!(
                r#"{{"content":{content},"structuredContent":{{"uri":"docs://a","type":"resource_link"}},"_meta":{{"openai/outputTemplate":"{ui}"}}}}"#
            )
        };
        let prompt = |docs: &str, ui: &str| {
            let one = format!(r#"{{"type":"resource_link","uri":"{docs}"}}"#);
            format!(
                r#"{{"messages":[{{"role":"user","content":{one}}},{{"content":{}}}]}}"#,
                blocks(docs, ui)
            )
        };
        let read = |docs: &str, ui: &str| {
            let text = docs.trim_start_matches("u+");
            format!(
                r#"{{"contents":[{{"uri":"{text}","text":"docs://a","_meta":{{"ui":{{"resourceUri":"{ui}"}}}}}},3]}}"#
            )
        };
        let (own, known) = (("docs://a", "ui://w/1"), ("u+docs://a", "ui://u/w/1"));
        for (method, result) in [
            (Method::ToolsCall, &tool as &dyn Fn(&str, &str) -> String),
            (Method::TasksResult, &tool),
            (Method::PromptsGet, &prompt),
            (Method::ResourcesRead, &read),
        ] {
            assert_eq!(translate(&result(own.0, own.1), method), result(known.0, known.1), "{method:?}");
        }
        assert_eq!(translate(&tool(own.0, own.1), Method::CompletionComplete), tool(own.0, own.1));
        assert_eq!(
            translate(r#"{"content":[{"type":"resource_link","uri":"docs:\/\/a"}]}"#, Method::ToolsCall),
            r#"{"content":[{"type":"resource_link","uri":"u+docs://a"}]}"#
        );
    }

    proptest! {
        #[test]
        fn any_result_stays_json_and_without_known_uris_stays_as_it_is(
            parts in proptest::collection::vec(proptest::sample::select(vec![
                r#"{"type":"resource_link","uri":"docs://a"}"#, r#"{"type":"resource","resource":{"uri":"ui://w"}}"#,
                r#"{"type":"text"}"#, "null", r#"[{"type":"resource_link","uri":"docs://a"}]"#, r#"{"resource":[]}"#, r#"{"_meta":[]}"#,
            ]), 0..8),
        ) {
            let result = format!(r#"{{"content":[{}],"contents":[],"messages":[]}}"#, parts.join(","));
            let translated = translate(&result, Method::ToolsCall);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&translated).is_ok());
            let message: Bytes = result.clone().into();
            let text = std::str::from_utf8(&message).unwrap();
            let none = in_result(Splice::new(), &message, text, Method::ToolsCall, |_| None).unwrap();
            prop_assert!(none.is_empty());
        }
    }
}
