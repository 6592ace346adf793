//! Tool arguments from the command line, typed by the tool's schema. Pure, except for reading named files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mcp::json::quote;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::client::signature;
use crate::commands::fields::read_text;
use crate::error::{Error, Result};
use crate::suggest::did_you_mean;

/// Reads the arguments into a JSON object. Those of pairs are checked by the schema; `all` are sent as they are.
pub fn read(pairs: &[String], all: Option<&str>, schema: &str) -> Result<String> {
    if let Some(text) = all {
        return whole(text);
    }
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    let given = typed(pairs, &schema)?;
    check_complete(&given, &schema)?;
    let members = given.into_iter().map(|(key, given)| format!("{}:{}", quote(&key), given.json()));
    Ok(format!("{{{}}}", members.collect::<Vec<_>>().join(",")))
}

/// Checks that the text is a JSON object, and returns it byte for byte.
fn whole(text: &str) -> Result<String> {
    let text = match text.strip_prefix('@') {
        Some(path) => read_text(Path::new(path))?,
        None => text.to_owned(),
    };
    match serde_json::from_str::<BTreeMap<String, &RawValue>>(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Error::usage(format!("--args must be a JSON object: {error}"))),
    }
}

/// What is given for an argument, as raw JSON.
enum GivenArgument {
    Whole(String),
    Items(Vec<String>),
}

impl GivenArgument {
    fn json(self) -> String {
        match self {
            Self::Whole(value) => value,
            Self::Items(items) => format!("[{}]", items.join(",")),
        }
    }
}

fn typed(pairs: &[String], schema: &Value) -> Result<BTreeMap<String, GivenArgument>> {
    let mut object = BTreeMap::new();
    for pair in pairs {
        let at = pair.find('=').filter(|at| *at > 0);
        let at =
            at.ok_or_else(|| Error::usage(format!("invalid argument {pair:?}; use KEY=VALUE or KEY:=JSON")))?;
        let (key, text) = (&pair[..at], &pair[at + 1..]);
        let (key, is_json) = key.strip_suffix(':').map_or((key, false), |key| (key, true));
        check_known(key, schema)?;
        let given =
            if is_json { GivenArgument::Whole(exact(key, text)?) } else { read_text_of(key, text, schema)? };
        match (object.get_mut(key), given) {
            (None, given) => drop(object.insert(key.to_owned(), given)),
            // A repeated key appends to a list.
            (Some(GivenArgument::Items(items)), GivenArgument::Items(more)) => items.extend(more),
            (Some(_), _) => {
                return Err(Error::usage(format!("{key} is given more than once, and is no list")));
            }
        }
    }
    Ok(object)
}

/// Checks JSON, and returns it as it is written: no number is rounded.
fn exact(key: &str, text: &str) -> Result<String> {
    let read: serde_json::Result<&RawValue> = serde_json::from_str(text);
    read.map(|raw| raw.get().to_owned()).map_err(|e| Error::usage(format!("{key}: invalid JSON: {e}")))
}

/// Reads the text of an argument by its schema.
fn read_text_of(key: &str, text: &str, schema: &Value) -> Result<GivenArgument> {
    let property = resolve(&schema["properties"][key], schema);
    let types = types(property, schema);
    if types.contains("array") && !types.contains("string") && !text.starts_with('[') {
        let items = resolve(&property["items"], schema);
        let item = value(key, text, &self::types(items, schema))?;
        check_listed(key, &item, items)?;
        return Ok(GivenArgument::Items(vec![item]));
    }
    let value = value(key, text, &types)?;
    check_listed(key, &value, property)?;
    Ok(GivenArgument::Whole(value))
}

/// Refuses an argument that the tool does not take, where its schema says which it takes.
fn check_known(key: &str, schema: &Value) -> Result {
    let Some(properties) = schema["properties"].as_object() else { return Ok(()) };
    let composed = ["anyOf", "oneOf", "allOf", "if", "$ref", "patternProperties"];
    let is_open = match &schema["additionalProperties"] {
        Value::Null => composed.iter().any(|keyword| schema.get(keyword).is_some()),
        more => *more != Value::Bool(false),
    };
    if is_open || properties.contains_key(key) {
        return Ok(());
    }
    let names: Vec<_> = properties.keys().map(String::as_str).collect();
    let hint = did_you_mean(key, names.iter().copied());
    let takes = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(Error::usage(format!(
        "the tool has no argument {key}{hint}; it takes {takes}; --args JSON sends others as they are"
    )))
}

/// Refuses a text that is none of those that the schema lists.
fn check_listed(key: &str, raw: &str, property: &Value) -> Result {
    let Some(listed) = property["enum"].as_array().filter(|_| raw.starts_with('"')) else { return Ok(()) };
    let text: String = serde_json::from_str(raw).unwrap_or_default();
    if listed.iter().any(|value| *value == *text) {
        return Ok(());
    }
    let hint = did_you_mean(&text, listed.iter().filter_map(Value::as_str));
    let values: Vec<_> = listed.iter().map(Value::to_string).collect();
    Err(Error::usage(format!("{key}: {text:?} is none of {}{hint}", values.join(", "))))
}

/// Refuses arguments of which one is missing that the tool requires.
fn check_complete(given: &BTreeMap<String, GivenArgument>, schema: &Value) -> Result {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing = required.filter(|name| !given.contains_key(*name));
    let missing: Vec<_> = missing
        .map(|name| format!("{name} ({})", signature::type_of(&schema["properties"][name], schema)))
        .collect();
    match missing.as_slice() {
        [] => Ok(()),
        missing => Err(Error::usage(format!(
            "the tool requires {}; give KEY=VALUE for each, or --args JSON, which is sent as it is",
            missing.join(", ")
        ))),
    }
}

/// Reads a text as a value of one of these types, as raw JSON; no types means any.
fn value(key: &str, text: &str, types: &BTreeSet<String>) -> Result<String> {
    let parsed: Option<&RawValue> = serde_json::from_str(text).ok();
    let fits = |raw: &&RawValue| match raw.get().as_bytes() {
        [b'n', ..] => types.contains("null"),
        [b't' | b'f', ..] => types.contains("boolean"),
        [b'[', ..] => types.contains("array"),
        [b'{', ..] => types.contains("object"),
        [b'"', ..] => false,
        number => {
            let is_integer = number.iter().all(|byte| *byte == b'-' || byte.is_ascii_digit());
            types.contains("number") || (types.contains("integer") && is_integer)
        }
    };
    match parsed.filter(fits) {
        Some(raw) => Ok(raw.get().to_owned()),
        None if types.is_empty() || types.contains("string") => Ok(quote(text)),
        None => {
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
            check(&["kind=a", "object={\"a\":1}", "zone=a=b"]),
            r#"{"kind":"a","object":{"a":1},"zone":"a=b"}"#
        );
        assert_eq!(read(&["any=5".to_owned()], None, r#"{"type":"object"}"#).unwrap(), r#"{"any":"5"}"#);
    }

    #[test]
    fn what_does_not_fit_is_told_by_its_key() {
        assert_eq!(check(&["count=many"]), "count: \"many\" is not of type integer");
        assert_eq!(check(&["count=1.5"]), "count: \"1.5\" is not of type integer");
        assert_eq!(check(&["count"]), "invalid argument \"count\"; use KEY=VALUE or KEY:=JSON");
        assert!(check(&["count:=x"]).starts_with("count: invalid JSON: "));
    }

    #[test]
    fn numbers_stay_as_they_are_written() {
        assert_eq!(
            check(&["count=12345678901234567890123", "ratio=0.10", "zone:=[1e400, 0.10]"]),
            r#"{"count":12345678901234567890123,"ratio":0.10,"zone":[1e400, 0.10]}"#
        );
    }

    #[test]
    fn arguments_that_the_tool_cannot_mean_are_refused() {
        let takes = "either, kind, maybe, object, ratio, tags, zone";
        assert_eq!(
            check(&["zoen=UTC"]),
            format!(
                "the tool has no argument zoen; did you mean zone?; it takes count, deep, {takes}; --args JSON sends others as they are"
            )
        );
        assert_eq!(check(&["zone=a", "zone=b"]), "zone is given more than once, and is no list");
        assert_eq!(check(&["tags=[1]", "tags=2"]), "tags is given more than once, and is no list");
        assert_eq!(check(&["kind=c"]), r#"kind: "c" is none of "a", "b""#);
        let read = |schema: &str, pairs: &[&str]| {
            let pairs: Vec<_> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
            read(&pairs, None, schema).unwrap_or_else(|error| error.to_string())
        };
        let open = r#"{"properties":{"a":{}},"additionalProperties":true}"#;
        assert_eq!(read(open, &["b=1"]), r#"{"b":"1"}"#);
        assert_eq!(read(r#"{"properties":{"a":{}},"anyOf":[]}"#, &["b=1"]), r#"{"b":"1"}"#);
        assert_eq!(
            read(r#"{"properties":{},"additionalProperties":false}"#, &["b=1"]),
            "the tool has no argument b; it takes none; --args JSON sends others as they are"
        );
        assert_eq!(
            read(
                r#"{"required":["a","b"],"properties":{"a":{"type":"string"},"b":{"type":"integer"}}}"#,
                &["a=1"]
            ),
            "the tool requires b (integer); give KEY=VALUE for each, or --args JSON, which is sent as it is"
        );
    }

    #[test]
    fn whole_arguments_stay_as_they_were_written() {
        let text = r#"{"n": 123456789012345678901234567890, "a": 1.0}"#;
        assert_eq!(read(&[], Some(text), "{}").unwrap(), text);
        assert!(read(&[], Some("[1]"), "{}").is_err());
    }
}
