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

    proptest! {
        #[test]
        fn every_string_comes_back(strings in prop::collection::vec(any::<String>(), 0..4)) {
            let text = render(&strings).unwrap();
            prop_assert!(!printable::has_hidden(&text));
            prop_assert_eq!(serde_yaml_ng::from_str::<Vec<String>>(&text).unwrap(), strings);
        }
    }
}
