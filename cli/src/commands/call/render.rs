//! Renders the result of a tool, and its notifications, for people. Contents that are texts stay as they are; what is made of
//! anything else is one line, safe for a terminal also where it goes through a pipe.

use serde_json::Value;

use crate::output::progress::Spinner;

/// Renders a result: texts as they are, a placeholder for other content, structured content if there is nothing else.
pub fn result(result: &str) -> String {
    let result: Value = serde_json::from_str(result).unwrap_or_default();
    let content = result["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines: Vec<_> = content.iter().map(block).collect();
    match &result["structuredContent"] {
        structured if lines.is_empty() && !structured.is_null() => {
            let pretty = serde_json::to_string_pretty(structured).unwrap_or_default();
            printable::json(&pretty).into_owned()
        }
        _ => lines.join("\n"),
    }
}

fn block(block: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = block["type"].as_str();
    match (kind, block["resource"]["text"].as_str()) {
        (Some("text"), _) => text(&block["text"]),
        (Some("resource"), Some(content)) => content.to_owned(),
        _ => printable::line(&placeholder(kind, block)).into_owned(),
    }
}

/// Names a content that is no text.
fn placeholder(kind: Option<&str>, block: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match kind {
        Some("resource_link") => text(&block["uri"]),
        Some("resource") => format!("[resource {}]", text(&block["resource"]["uri"])),
        Some(kind) => {
            let bytes = block["data"].as_str().map_or(0, |data| data.len() / 4 * 3);
            format!("[{kind} {}, about {bytes} bytes; use -o json to print it]", text(&block["mimeType"]))
        }
        None => block.to_string(),
    }
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
