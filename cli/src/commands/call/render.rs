//! Renders the result of a tool for people. Contents that are texts stay as they are; what is made of
//! anything else is one line, safe for a terminal also where it goes through a pipe.

use std::borrow::Cow;

use mcp::json::{self, JsonError};
use serde_json::Value;

use crate::client::media::{MediaPrinter, Medium};
use crate::client::signature::readable;
use crate::error::Result;
use crate::output;

/// A part of what is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentPart {
    Text(String),
    Medium(Medium),
}

/// Renders a result: texts as they are, other contents apart, structured content if there is nothing else. It may nest deeper
/// than values of `serde_json` do, so its parts are read one by one.
pub fn result(result: &str) -> Vec<ContentPart> {
    let Ok([content, structured]) = json::members(result, ["content", "structuredContent"]) else {
        return vec![ContentPart::Text(printable::json(result).into_owned())];
    };
    let mut parts = Vec::new();
    let read = json::each_element(content.unwrap_or("[]"), |raw| {
        parts.push(part(raw));
        Ok::<(), JsonError>(())
    });
    match structured {
        Some(structured) if read.is_err() || parts.is_empty() && structured != "null" => {
            vec![ContentPart::Text(printable::json(&pretty(structured)).into_owned())]
        }
        _ => parts,
    }
}

/// Prints parts in their order; texts that follow each other as one.
pub fn print(parts: &[ContentPart], printer: &MediaPrinter<'_>) -> Result {
    for run in parts.chunk_by(|a, b| matches!((a, b), (ContentPart::Text(_), ContentPart::Text(_)))) {
        let texts = run.iter().filter_map(|part| match part {
            ContentPart::Text(text) => Some(text.as_str()),
            ContentPart::Medium(_) => None,
        });
        match &run[0] {
            ContentPart::Text(_) => output::print_content(&texts.collect::<Vec<_>>().join("\n"))?,
            ContentPart::Medium(medium) => printer.print(medium)?,
        }
    }
    Ok(())
}

/// Saves the parts that are no texts, where that is wanted beside output for programs.
pub fn save(parts: &[ContentPart], printer: &MediaPrinter<'_>) -> Result {
    parts.iter().try_for_each(|part| match part {
        ContentPart::Medium(medium) => printer.save_beside(medium),
        ContentPart::Text(_) => Ok(()),
    })
}

/// Indents a value, unless it nests too deep for that.
fn pretty(raw: &str) -> Cow<'_, str> {
    let value = serde_json::from_str::<Value>(raw).and_then(|value| serde_json::to_string_pretty(&value));
    value.map_or(Cow::Borrowed(raw), Cow::Owned)
}

/// Renders one content.
pub fn part(raw: &str) -> ContentPart {
    match Medium::read(raw) {
        Some(medium) => ContentPart::Medium(medium),
        None => ContentPart::Text(block(raw)),
    }
}

fn block(raw: &str) -> String {
    let read = json::members(raw, ["type", "text", "resource", "uri"]);
    let [kind, text, resource, uri] = read.unwrap_or_default();
    let resource = json::members(resource.unwrap_or("{}"), ["text", "uri"]);
    let [content, resource_uri] = resource.unwrap_or_default();
    let kind = kind.and_then(readable);
    let [text, content, uri, resource_uri] =
        [text, content, uri, resource_uri].map(|raw| raw.and_then(readable));
    let shown = match (kind.as_deref(), text, content) {
        (Some("text"), Some(text), _) | (Some("resource"), _, Some(text)) => return text,
        (Some("resource_link"), ..) if uri.is_some() => uri,
        (Some("resource"), ..) => resource_uri.map(|uri| format!("[resource {uri}]")),
        (None | Some("text" | "resource_link"), ..) => None,
        (Some(kind), ..) => Some(format!("[{kind}; use -o json to print it]")),
    };
    // What cannot be read is shown as it came.
    printable::line(shown.as_deref().unwrap_or(raw)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{ContentPart, result as parts};

    fn result(raw: &str) -> String {
        let text = |part: ContentPart| match part {
            ContentPart::Text(text) => text,
            ContentPart::Medium(medium) => medium.placeholder(),
        };
        parts(raw).into_iter().map(text).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn texts_are_printed_and_other_things_named() {
        let mixed = r#"{"content": [{"type": "text", "text": "one"}, {"type": "image", "mimeType": "image/png", "data": "AAAA"},
            {"type": "resource_link", "uri": "file:///a"}], "structuredContent": {"a": 1}}"#;
        assert_eq!(
            result(mixed),
            "one\n[image image/png, about 3 bytes; use --save DIR to save it, or -o json to print it]\nfile:///a"
        );
        assert_eq!(result(r#"{"content": [], "structuredContent": {"a": 1}}"#), "{\n  \"a\": 1\n}");
    }

    #[test]
    fn what_nests_deep_is_printed_as_well() {
        for depth in [1, 125, 126, 127, 500, 1_000] {
            let deep = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
            let texts = format!(
                r#"{{"content":[{{"type":"text","text":"hello","_meta":{deep}}}],"structuredContent":{deep}}}"#
            );
            assert_eq!(result(&texts), "hello", "{depth}");
            let structured = result(&format!(r#"{{"content":[],"structuredContent":{deep}}}"#));
            assert_eq!(structured.replace([' ', '\n'], ""), deep);
        }
        assert_eq!(result("[]"), "[]", "what is no result is shown");
    }

    #[test]
    fn nothing_is_left_out() {
        for (content, shown) in [
            (r#"{"type":"text","text":"a\ud800b"}"#, "a\u{fffd}b"),
            (r#"{"type":"text","text":"\ud83d\ude00"}"#, "\u{1f600}"),
            (r#"{"type":"text","text":5}"#, r#"{"type":"text","text":5}"#),
            (r#"{"type":"text"}"#, r#"{"type":"text"}"#),
            (r#"{"type":"resource_link"}"#, r#"{"type":"resource_link"}"#),
            (r#"{"type":"text","text":"a","text":"b"}"#, r#"{"type":"text","text":"a","text":"b"}"#),
            ("5", "5"),
        ] {
            assert_eq!(result(&format!(r#"{{"content":[{content}]}}"#)), shown, "{content}");
        }
    }

    #[test]
    fn only_contents_that_are_texts_are_raw() {
        let hostile = "\\u001b[2J\\nforged\\u202e";
        let escaped = "\\u{1b}[2J\\nforged\\u{202e}";
        for (content, shown) in [
            (r#"{"type":"text","text":"H"}"#, "\u{1b}[2J\nforged\u{202e}".to_owned()),
            (r#"{"type":"resource","resource":{"text":"H"}}"#, "\u{1b}[2J\nforged\u{202e}".to_owned()),
            (r#"{"type":"resource_link","uri":"H","name":"n"}"#, escaped.to_owned()),
            (r#"{"type":"resource","resource":{"uri":"H"}}"#, format!("[resource {escaped}]")),
            (r#"{"type":"H","mimeType":"H"}"#, format!("[{escaped}; use -o json to print it]")),
        ] {
            let content = content.replace('H', hostile);
            assert_eq!(result(&format!(r#"{{"content":[{content}]}}"#)), shown, "{content}");
        }
        let structured = result(&format!(r#"{{"structuredContent":{{"a":"{hostile}"}}}}"#));
        assert_eq!(structured, "{\n  \"a\": \"\\u001b[2J\\nforged\\u202e\"\n}");
    }
}
