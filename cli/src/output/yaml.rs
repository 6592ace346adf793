//! YAML that is exact and safe to print: strings with characters that do not print are quoted, and these are escaped.

use serde::Serialize;
use serde_yaml_ng::{Error, Mapping, Value, to_string, to_value};

/// Renders a value.
pub(super) fn render(value: &impl Serialize) -> Result<String, Error> {
    let (value, mut quoted) = (to_value(value)?, Vec::new());
    let stem = unused_stem(&value);
    let replaced = replace_hidden(value, &stem, &mut quoted);
    let mut text = to_string(&replaced)?;
    for (number, string) in quoted.iter().enumerate().rev() {
        // A string in the escapes of JSON is a double-quoted scalar of YAML (YAML 1.2.2, section 7.3.1).
        let scalar = serde_json::Value::from(string.as_str()).to_string();
        text = text.replace(&placeholder(&stem, number), &printable::yaml_strings(&scalar));
    }
    Ok(text)
}

/// Renders JSON text. Numbers that would be rounded are written as they are there: every number of JSON is one of YAML.
pub(super) fn render_json(text: &str) -> Result<String, String> {
    let (mut stem, mut numbers) = ("number".to_owned(), Vec::new());
    let value = loop {
        numbers.clear();
        let replaced = replace_inexact(text, &stem, &mut numbers);
        let value: serde_json::Value = serde_json::from_str(&replaced).map_err(|error| error.to_string())?;
        // Strings may say the same, also by escapes.
        if mentions(&value, &stem) == numbers.len() {
            break value;
        }
        stem.push('x');
    };
    let mut rendered = render(&value).map_err(|error| error.to_string())?;
    for (at, number) in numbers.iter().enumerate() {
        rendered = rendered.replace(&placeholder(&stem, at), number);
    }
    Ok(rendered)
}

/// Replaces numbers that do not come back as they are written by strings, and collects them.
fn replace_inexact<'t>(text: &'t str, stem: &str, numbers: &mut Vec<&'t str>) -> String {
    let (mut replaced, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(|letter: char| letter == '"' || letter == '-' || letter.is_ascii_digit()) {
        replaced.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = if rest.starts_with('"') { string_length(rest) } else { number_length(rest) };
        let (token, after) = rest.split_at(length);
        let written = || Some(serde_json::from_str::<serde_json::Value>(token).ok()?.to_string());
        if token.starts_with('"') || written().as_deref() == Some(token) {
            replaced.push_str(token);
        } else {
            replaced.push_str(&format!("\"{}\"", placeholder(stem, numbers.len())));
            numbers.push(token);
        }
        rest = after;
    }
    replaced + rest
}

fn number_length(text: &str) -> usize {
    let is_part = |letter: char| letter.is_ascii_digit() || "+-.eE".contains(letter);
    text.find(|letter| !is_part(letter)).unwrap_or(text.len())
}

/// The length of the string that a text begins with, quotes included.
fn string_length(text: &str) -> usize {
    // The quote that begins it ends nothing.
    let mut is_escaped = true;
    let end = text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 1)
}

/// How many strings and names of a value contain a word.
fn mentions(value: &serde_json::Value, word: &str) -> usize {
    match value {
        serde_json::Value::String(text) => usize::from(text.contains(word)),
        serde_json::Value::Array(items) => items.iter().map(|item| mentions(item, word)).sum(),
        serde_json::Value::Object(members) => {
            members.iter().map(|(key, value)| usize::from(key.contains(word)) + mentions(value, word)).sum()
        }
        _ => 0,
    }
}

/// Replaces strings that the emitter would write raw by placeholders, and collects them.
fn replace_hidden(value: Value, stem: &str, quoted: &mut Vec<String>) -> Value {
    match value {
        Value::String(text) if printable::has_hidden(&text) => {
            quoted.push(text);
            Value::String(placeholder(stem, quoted.len() - 1))
        }
        Value::Sequence(items) => items.into_iter().map(|item| replace_hidden(item, stem, quoted)).collect(),
        Value::Mapping(members) => {
            let replaced: Mapping = members
                .into_iter()
                .map(|(key, value)| (replace_hidden(key, stem, quoted), replace_hidden(value, stem, quoted)))
                .collect();
            Value::Mapping(replaced)
        }
        other => other,
    }
}

fn placeholder(stem: &str, number: usize) -> String {
    format!("{stem}{number}end")
}

/// Returns a word that no string of the value contains.
fn unused_stem(value: &Value) -> String {
    let mut stem = "quoted".to_owned();
    while contains(value, &stem) {
        stem.push('x');
    }
    stem
}

fn contains(value: &Value, word: &str) -> bool {
    match value {
        Value::String(text) => text.contains(word),
        Value::Sequence(items) => items.iter().any(|item| contains(item, word)),
        Value::Mapping(members) => {
            members.iter().any(|(key, value)| contains(key, word) || contains(value, word))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn hidden_characters_are_escaped_and_the_value_is_the_same() {
        let value = json!({
            "plain": "two\nlines", "\u{202e}key": ["\u{1b}[2J\nforged: true", "quoted0end", "a\r\nb"], "n": 1
        });
        let text = render(&value).unwrap();
        assert!(
            text.contains(r#""\u202ekey":"#) && text.contains(r#"- "\u001b[2J\nforged: true""#),
            "{text}"
        );
        assert!(!printable::has_hidden(&text));
        assert_eq!(serde_yaml_ng::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn numbers_stay_as_they_are_written() {
        let text = r#"{"a": [12345678901234567890123, -0.10, 1e400, 7, 0.5], "s": "1e400 \" 0.10", "t": "\u006eumber0end", "z": 1E2}"#;
        assert_eq!(
            render_json(text).unwrap(),
            "a:\n- 12345678901234567890123\n- -0.10\n- 1e400\n- 7\n- 0.5\ns: 1e400 \" 0.10\nt: number0end\nz: 1E2\n"
        );
        assert!(render_json("{\"a\": 1").is_err());
    }

    proptest! {
        #[test]
        fn every_string_comes_back(strings in prop::collection::vec(any::<String>(), 0..4)) {
            let text = render(&strings).unwrap();
            prop_assert!(!printable::has_hidden(&text));
            prop_assert_eq!(serde_yaml_ng::from_str::<Vec<String>>(&text).unwrap(), strings);
        }
    }
}
