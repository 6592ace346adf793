//! Renders the result of a tool, and its notifications, for people. Contents that are texts stay as they are; what is made of
//! anything else is one line, safe for a terminal also where it goes through a pipe.

use std::borrow::Cow;

use mcp::json::{self, JsonError};
use serde_json::Value;

use crate::output::progress::Spinner;

/// Renders a result: texts as they are, a placeholder for other content, structured content if there is nothing else. It may
/// nest deeper than values of `serde_json` do, so its parts are read one by one.
pub fn result(result: &str) -> String {
    let Ok([content, structured]) = json::members(result, ["content", "structuredContent"]) else {
        return printable::json(result).into_owned();
    };
    let mut lines = Vec::new();
    let read = json::each_element(content.unwrap_or("[]"), |raw| {
        lines.push(block(raw));
        Ok::<(), JsonError>(())
    });
    match structured {
        Some(structured) if read.is_err() || lines.is_empty() && structured != "null" => {
            printable::json(&pretty(structured)).into_owned()
        }
        _ => lines.join("\n"),
    }
}

/// Indents a value, unless it nests too deep for that.
fn pretty(raw: &str) -> Cow<'_, str> {
    let value = serde_json::from_str::<Value>(raw).and_then(|value| serde_json::to_string_pretty(&value));
    value.map_or(Cow::Borrowed(raw), Cow::Owned)
}

/// Renders one content.
pub fn block(raw: &str) -> String {
    let read = json::members(raw, ["type", "text", "resource", "uri", "mimeType", "data"]);
    let [kind, text, resource, uri, media, data] = read.unwrap_or_default();
    let resource = json::members(resource.unwrap_or("{}"), ["text", "uri"]);
    let [content, resource_uri] = resource.unwrap_or_default();
    let kind = kind.and_then(|kind| json::string(kind).ok());
    let shown = match kind.as_deref() {
        Some("text") => return plain(text),
        Some("resource") if content.is_some_and(|content| json::string(content).is_ok()) => {
            return plain(content);
        }
        Some("resource_link") => plain(uri),
        Some("resource") => format!("[resource {}]", plain(resource_uri)),
        Some(kind) => {
            let bytes = plain(data).len() / 4 * 3;
            format!("[{kind} {}, about {bytes} bytes; use -o json to print it]", plain(media))
        }
        None => raw.to_owned(),
    };
    printable::line(&shown).into_owned()
}

/// The text that a raw value is; empty for another one.
fn plain(raw: Option<&str>) -> String {
    raw.and_then(|raw| json::string(raw).ok()).unwrap_or_default().into_owned()
}

/// Shows progress in the spinner and prints log messages.
pub fn notification(spinner: &Spinner, method: &str, params: Option<&str>) {
    let params: Value = params.and_then(|params| serde_json::from_str(params).ok()).unwrap_or_default();
    match method {
        "notifications/progress" => {
            let text = params["message"].as_str().unwrap_or_default();
            spinner.position(params["progress"].as_f64().unwrap_or_default(), params["total"].as_f64(), text);
        }
        "notifications/message" => {
            let data = params["data"].as_str().map_or_else(|| params["data"].to_string(), str::to_owned);
            let line = format!("[{}] {data}", params["level"].as_str().unwrap_or("info"));
            spinner.println(&printable::line(&line));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::result;

    #[test]
    fn texts_are_printed_and_other_things_named() {
        let mixed = r#"{"content": [{"type": "text", "text": "one"}, {"type": "image", "mimeType": "image/png", "data": "AAAA"},
            {"type": "resource_link", "uri": "file:///a"}], "structuredContent": {"a": 1}}"#;
        assert_eq!(
            result(mixed),
            "one\n[image image/png, about 3 bytes; use -o json to print it]\nfile:///a"
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
    fn only_contents_that_are_texts_are_raw() {
        let hostile = "\\u001b[2J\\nforged\\u202e";
        let escaped = "\\u{1b}[2J\\nforged\\u{202e}";
        for (content, shown) in [
            (r#"{"type":"text","text":"H"}"#, "\u{1b}[2J\nforged\u{202e}".to_owned()),
            (r#"{"type":"resource","resource":{"text":"H"}}"#, "\u{1b}[2J\nforged\u{202e}".to_owned()),
            (r#"{"type":"resource_link","uri":"H","name":"n"}"#, escaped.to_owned()),
            (r#"{"type":"resource","resource":{"uri":"H","blob":""}}"#, format!("[resource {escaped}]")),
            (
                r#"{"type":"H","mimeType":"H"}"#,
                format!("[{escaped} {escaped}, about 0 bytes; use -o json to print it]"),
            ),
        ] {
            let content = content.replace('H', hostile);
            assert_eq!(result(&format!(r#"{{"content":[{content}]}}"#)), shown, "{content}");
        }
        let structured = result(&format!(r#"{{"structuredContent":{{"a":"{hostile}"}}}}"#));
        assert_eq!(structured, "{\n  \"a\": \"\\u001b[2J\\nforged\\u202e\"\n}");
    }
}
