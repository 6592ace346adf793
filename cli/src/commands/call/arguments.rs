//! Tool arguments from the command line, typed by the tool's schema. Pure, except for reading named files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};

use crate::commands::fields::read_text;
use crate::error::{Error, Result};

/// Reads the arguments into a JSON object.
pub fn read(pairs: &[String], all: Option<&str>, schema: &str) -> Result<String> {
    match all {
        Some(text) => whole(text),
        None => {
            let schema: Value = serde_json::from_str(schema).unwrap_or_default();
            typed(pairs, &schema).map(|object| Value::Object(object).to_string())
        }
    }
}

/// Checks that the text is a JSON object, and returns it byte for byte.
fn whole(text: &str) -> Result<String> {
    let text = match text.strip_prefix('@') {
        Some(path) => read_text(Path::new(path))?,
        None => text.to_owned(),
    };
    match serde_json::from_str::<BTreeMap<String, &serde_json::value::RawValue>>(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Error::usage(format!("--args must be a JSON object: {error}"))),
    }
}

fn typed(pairs: &[String], schema: &Value) -> Result<Map<String, Value>> {
    let mut object = Map::new();
    for pair in pairs {
        let at = pair.find('=').filter(|at| *at > 0);
        let at =
            at.ok_or_else(|| Error::usage(format!("invalid argument {pair:?}; use KEY=VALUE or KEY:=JSON")))?;
        let (key, text) = (&pair[..at], &pair[at + 1..]);
        if let Some(key) = key.strip_suffix(':') {
            let value =
                serde_json::from_str(text).map_err(|e| Error::usage(format!("{key}: invalid JSON: {e}")))?;
            object.insert(key.to_owned(), value);
            continue;
        }
        let property = resolve(&schema["properties"][key], schema);
        let types = types(property, schema);
        // A repeated key appends to a list.
        if types.contains("array") && !types.contains("string") && !text.starts_with('[') {
            let item = value(key, text, &self::types(resolve(&property["items"], schema), schema))?;
            let list = object.entry(key).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(item);
            }
            continue;
        }
        object.insert(key.to_owned(), value(key, text, &types)?);
    }
    Ok(object)
}

/// Reads a text as a value of one of these types; no types means any.
fn value(key: &str, text: &str, types: &BTreeSet<String>) -> Result<Value> {
    let parsed: Option<Value> = serde_json::from_str(text).ok();
    let fits = |value: &Value| match value {
        Value::Null => types.contains("null"),
        Value::Bool(_) => types.contains("boolean"),
        Value::Number(number) => {
            types.contains("number") || (types.contains("integer") && (number.is_i64() || number.is_u64()))
        }
        Value::Array(_) => types.contains("array"),
        Value::Object(_) => types.contains("object"),
        Value::String(_) => false,
    };
    match parsed {
        Some(value) if fits(&value) => Ok(value),
        // A long integer would lose digits as a number: it stays a string, or is refused below.
        _ if types.is_empty() || types.contains("string") => Ok(Value::String(text.to_owned())),
        _ => {
            let names: Vec<_> = types.iter().map(String::as_str).collect();
            Err(Error::usage(format!("{key}: {text:?} is not of type {}", names.join(" or "))))
        }
    }
}

/// Follows references within the schema, to a limited depth.
fn resolve<'a>(mut schema: &'a Value, root: &'a Value) -> &'a Value {
    for _ in 0..8 {
        let Some(pointer) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) else {
            break;
        };
        match root.pointer(pointer) {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

fn types(schema: &Value, root: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(schema, root, 0, &mut found);
    found
}

fn collect(schema: &Value, root: &Value, depth: usize, found: &mut BTreeSet<String>) {
    if depth > 8 {
        return;
    }
    let schema = resolve(schema, root);
    match &schema["type"] {
        Value::String(name) => drop(found.insert(name.clone())),
        Value::Array(names) => found.extend(names.iter().filter_map(Value::as_str).map(str::to_owned)),
        _ => {}
    }
    for value in schema["enum"].as_array().into_iter().flatten().chain(schema.get("const")) {
        found.insert(type_of(value).to_owned());
    }
    for keyword in ["anyOf", "oneOf", "allOf"] {
        for part in schema[keyword].as_array().into_iter().flatten() {
            collect(part, root, depth + 1, found);
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r##"{"properties": {
        "zone": {"type": "string"}, "count": {"type": "integer"}, "ratio": {"type": "number"}, "deep": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "integer"}}, "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "either": {"type": ["string", "integer"]}, "kind": {"$ref": "#/$defs/kind"}, "object": {"type": "object"}},
        "$defs": {"kind": {"enum": ["a", "b"]}}}"##;

    fn check(pairs: &[&str]) -> String {
        let pairs: Vec<_> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        read(&pairs, None, SCHEMA).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn values_are_typed_by_the_schema() {
        assert_eq!(
            check(&["zone=12", "count=12", "ratio=0.5", "deep=true"]),
            r#"{"count":12,"deep":true,"ratio":0.5,"zone":"12"}"#
        );
        assert_eq!(check(&["tags=1", "tags=2"]), r#"{"tags":[1,2]}"#);
        assert_eq!(
            check(&["tags=[3,4]", "maybe=null", "either=7"]),
            r#"{"either":7,"maybe":null,"tags":[3,4]}"#
        );
        assert_eq!(
            check(&["kind=a", "object={\"a\":1}", "unknown=5"]),
            r#"{"kind":"a","object":{"a":1},"unknown":"5"}"#
        );
        assert_eq!(check(&["zone:=12", "zone=a=b"]), r#"{"zone":"a=b"}"#);
    }

    #[test]
    fn what_does_not_fit_is_told_by_its_key() {
        assert_eq!(check(&["count=many"]), "count: \"many\" is not of type integer");
        assert_eq!(check(&["count=1.5"]), "count: \"1.5\" is not of type integer");
        assert_eq!(check(&["count"]), "invalid argument \"count\"; use KEY=VALUE or KEY:=JSON");
        assert!(check(&["count:=x"]).starts_with("count: invalid JSON: "));
    }

    #[test]
    fn whole_arguments_stay_as_they_were_written() {
        let text = r#"{"n": 123456789012345678901234567890, "a": 1.0}"#;
        assert_eq!(read(&[], Some(text), "{}").unwrap(), text);
        assert!(read(&[], Some("[1]"), "{}").is_err());
    }
}
