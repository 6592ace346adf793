//! A host's file as a value: JSON as editors write it, YAML or TOML. Pure; it must not know what the value is about.

use mcp::border::without_mark;
use serde_json::Value;

use super::jsonc;
use crate::toml;

/// Decodes a file: UTF-8, or UTF-16 with its mark, as PowerShell writes it.
///
/// # Errors
/// When it is neither.
pub(super) fn decode(bytes: &[u8]) -> Result<String, String> {
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => match std::str::from_utf8(without_mark(bytes)) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(format!("it is not UTF-8 from byte {} on", error.valid_up_to())),
        },
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let decoded: Result<String, _> = char::decode_utf16(pairs.iter().copied().map(unit)).collect();
    match decoded {
        Ok(text) if rest.is_empty() => Ok(text),
        _ => Err("it is not the UTF-16 that its first bytes say".to_owned()),
    }
}

/// Reads a text: JSON where it begins as such, else YAML; or TOML, where it is neither and looks like it.
///
/// # Errors
/// What it is instead, or where it is broken.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    let json = jsonc::to_json(text);
    if json.trim_start().starts_with(['{', '[']) {
        let read = serde_json::from_str(&json);
        return read.or_else(|error| or_toml(text, format!("invalid JSON: {error}")));
    }
    let mut document: serde_yaml_ng::Value = match serde_yaml_ng::from_str(text) {
        Ok(document) => document,
        Err(error) => return or_toml(text, format!("invalid YAML: {error}")),
    };
    let merged = document.apply_merge();
    let value = merged.ok().and_then(|()| serde_json::to_value(document).ok());
    match value {
        Some(value @ (Value::Object(_) | Value::Array(_))) => Ok(value),
        _ => or_toml(text, "it is neither JSON, YAML nor TOML that has members".to_owned()),
    }
}

fn or_toml(text: &str, otherwise: String) -> Result<Value, String> {
    if !text.lines().any(is_toml) {
        return Err(otherwise);
    }
    toml::read(text).map_err(|why| format!("invalid TOML: {why}"))
}

/// Whether a line is the head of a table or the beginning of a pair in TOML, which mean nothing in JSON and YAML.
fn is_toml(line: &str) -> bool {
    let is_key = |key: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.\"'".contains(c);
        key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(plain)
    };
    let line = line.trim();
    let table = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    table.is_some_and(is_key) || line.split_once('=').is_some_and(|(key, _)| is_key(key.trim_end()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_encoding_that_says_what_it_is_is_decoded() {
        let utf16 = |mark: [u8; 2], bytes: fn(u16) -> [u8; 2]| {
            mark.into_iter().chain("{é𝄞".encode_utf16().flat_map(bytes)).collect::<Vec<u8>>()
        };
        for bytes in [
            "{é𝄞".as_bytes().to_vec(),
            "\u{feff}{é𝄞".as_bytes().to_vec(),
            utf16([0xff, 0xfe], u16::to_le_bytes),
            utf16([0xfe, 0xff], u16::to_be_bytes),
        ] {
            assert_eq!(decode(&bytes).as_deref(), Ok("{é𝄞"), "{bytes:?}");
        }
        assert_eq!(decode(b"{\xe9").unwrap_err(), "it is not UTF-8 from byte 1 on");
        for bytes in [&b"\xff\xfe{\0\0"[..], b"\xff\xfe\0\xd8"] {
            assert_eq!(decode(bytes).unwrap_err(), "it is not the UTF-16 that its first bytes say");
        }
    }

    #[test]
    fn json_and_yaml_are_read_and_what_is_neither_is_named() {
        let read = json!({"a": {"b": ["x", 1, true, null]}, "url": "http://a//b"});
        for text in [
            r#"{"a": {"b": ["x", 1, true, null],}, /* c */ "url": "http://a//b"}"#,
            "# mine\na:\n  b: [x, 1, true, null]\nurl: http://a//b\n",
            "---\nx: &x\n  b: [x, 1, true, null]\na:\n  <<: *x\nurl: http://a//b\n",
        ] {
            let mut value = parse(text).unwrap();
            value.as_object_mut().unwrap().remove("x");
            assert_eq!(value, read, "{text}");
        }
        let toml = json!({"mcp_servers": {"a": {"url": "http://a"}}});
        assert_eq!(parse("[mcp_servers.a]\nurl = \"http://a\"").unwrap(), toml);
        assert_eq!(parse("mcp_servers.a = { url = \"http://a\" } # mine").unwrap(), toml);
        let neither = "it is neither JSON, YAML nor TOML that has members";
        for (text, error) in [
            (" \n", "it is empty"),
            ("hello", neither),
            ("{\"a\": }", "invalid JSON: expected value at line 1 column 7"),
            ("a: b: c", "invalid YAML: mapping values are not allowed in this context at line 1 column 5"),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text}");
        }
        let error = parse("model = \"s3cret\"\n[mcp_servers.a\nurl = \"http://a\"").unwrap_err();
        assert!(error.starts_with("invalid TOML: ") && error.ends_with(" at line 2 column 15"), "{error}");
    }
}
