//! TOML as a value, as hosts write their servers. Pure; it must not know what the value is about.

use serde_json::Value;
use toml_edit::{Document, Item, TableLike};

/// Reads a text, with the places of all that is in it.
///
/// # Errors
/// Where it is broken, without quoting it: it may hold secrets.
pub fn parse(text: &str) -> Result<Document<&str>, String> {
    Document::parse(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let (line, last) = (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default());
        format!("{} at line {line} column {}", one_line(error.message()), last.chars().count() + 1)
    })
}

/// What a text says. Dates are texts.
///
/// # Errors
/// As [`parse`].
pub fn read(text: &str) -> Result<Value, String> {
    Ok(table(parse(text)?.as_table()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn table(table: &dyn TableLike) -> Value {
    Value::Object(table.iter().map(|(key, item)| (key.to_owned(), of_item(item))).collect())
}

fn of_item(item: &Item) -> Value {
    match item {
        Item::None => Value::Null,
        Item::Value(value) => of_value(value),
        Item::Table(inner) => table(inner),
        Item::ArrayOfTables(tables) => tables.iter().map(|inner| table(inner)).collect(),
    }
}

fn of_value(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => Value::String(text.value().clone()),
        toml_edit::Value::Integer(number) => Value::from(*number.value()),
        toml_edit::Value::Float(number) => Value::from(*number.value()),
        toml_edit::Value::Boolean(said) => Value::Bool(*said.value()),
        toml_edit::Value::Datetime(time) => Value::String(time.value().to_string()),
        toml_edit::Value::Array(list) => list.iter().map(of_value).collect(),
        toml_edit::Value::InlineTable(inner) => table(inner),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_type_becomes_its_like() {
        let text = "# mine\nmodel = 'x'\n[mcp_servers.a]\nurl = \"http://a\"\nhttp_headers = { X-K = \"v\" }\nargs = [1, 2.5, true]\n\
                    at = 2026-01-01\n[[list]]\nb = \"\"\"\nc\"\"\"\n";
        assert_eq!(
            read(text).unwrap(),
            json!({"model": "x", "mcp_servers": {"a": {"url": "http://a", "http_headers": {"X-K": "v"},
                "args": [1, 2.5, true], "at": "2026-01-01"}}, "list": [{"b": "c"}]})
        );
    }

    #[test]
    fn what_is_broken_is_named_with_its_place_and_not_quoted() {
        for (text, place) in [
            ("a = \"s3cret", "at line 1 column "),
            ("a = 1\n\n[b]\nc = s3cret\n", "at line 4 column 5"),
            ("é = 1", "at line 1 column "),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(place), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"[a=\[\]{}"'é.,\n 1-]*"#) {
            let _ = read(&text);
        }
    }
}
