//! The fields of a resource, as they are written: whether each is known, and its value of the type that it has.

use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind as FieldKind, MessageDescriptor};
use schema::{rules, words};
use serde_json::{Value, json};

use super::elsewhere;
use crate::suggest::{did_you_mean, nearest};

/// Fields that are not at the place where they were written are looked for so deep.
const MAX_DEPTH: usize = 3;

/// What files of Kubernetes have at the top, and these have not.
const OF_KUBERNETES: [&str; 3] = ["apiVersion", "metadata", "spec"];

/// What is wrong in a resource, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Such as `tools[1].match`; empty for the resource as a whole.
    pub(super) path: String,
    /// A sentence that names the field.
    pub(super) why: String,
}

impl Wrong {
    pub(super) fn new(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self { path: path.into(), why: why.into() }
    }
}

/// Finds out that a file is written as for Kubernetes, which is said once.
pub(super) fn of_kubernetes(topic: &str, json: &Value) -> Option<Wrong> {
    let found = OF_KUBERNETES.iter().filter(|key| json.get(**key).is_some());
    let found: Vec<_> = found.map(|key| (*key).to_owned()).collect();
    let why = format!(
        "there is no {} here: all fields stand at the top, labels in `meta.labels`; `mcpctl explain {topic} --example` prints such a \
         file",
        words::one_of(&found)
    );
    found.first().map(|first| Wrong::new(first.as_str(), why))
}

/// Finds the fields that are unknown or have the wrong type.
pub(super) fn check(message: &MessageDescriptor, json: &Value) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    check_message(message, json, "", &mut wrong);
    wrong
}

fn check_message(message: &MessageDescriptor, json: &Value, path: &str, wrong: &mut Vec<Wrong>) {
    let Value::Object(members) = json else {
        return wrong.push(Wrong::new(path, format!("{path}: must be a mapping")));
    };
    for (key, value) in members {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match message.get_field_by_json_name(key).or_else(|| message.get_field_by_name(key)) {
            None => wrong.push(Wrong::new(&path, unknown(message, key, &path))),
            Some(field) => check_field(message, &field, value, &path, wrong),
        }
    }
}

fn check_field(
    message: &MessageDescriptor,
    field: &FieldDescriptor,
    value: &Value,
    path: &str,
    wrong: &mut Vec<Wrong>,
) {
    match (field.kind(), value) {
        (FieldKind::Message(inner), Value::Object(_)) if is_trunkline(&inner) && !field.is_map() => {
            check_message(&inner, value, path, wrong);
        }
        (FieldKind::Message(inner), Value::Array(items)) if is_trunkline(&inner) && field.is_list() => {
            for (index, item) in items.iter().enumerate() {
                check_message(&inner, item, &format!("{path}[{index}]"), wrong);
            }
        }
        // What is written instead is not quoted: it may be a secret.
        (FieldKind::Message(inner), value) if is_trunkline(&inner) && !field.is_map() && !value.is_null() => {
            let wanted = if field.is_list() { "a list" } else { "a mapping" };
            let example = value.as_str().and_then(|text| of_reference(&inner, text)).unwrap_or_default();
            wrong.push(Wrong::new(path, format!("{path}: must be {wanted}{example}")));
        }
        (FieldKind::Enum(kind), Value::String(word)) if words::value(&kind, word).is_some() => {}
        (FieldKind::Enum(kind), Value::String(word)) => {
            wrong.push(Wrong::new(path, format!("{path}: {}", no_value(&kind, word))));
        }
        (FieldKind::Message(entry), Value::Object(members)) if field.is_map() && holds_texts(&entry) => {
            let odd = members.iter().filter(|(_, value)| !value.is_string());
            wrong.extend(odd.map(|(key, value)| no_text(&of_key(path, key), value)));
        }
        (FieldKind::String, value @ (Value::Bool(_) | Value::Number(_))) if !field.is_list() => {
            wrong.push(no_text(path, value));
        }
        _ => {
            let key = field.json_name();
            let alone = json!({ key: value });
            if let Err(error) = DynamicMessage::deserialize(message.clone(), alone) {
                wrong.push(Wrong::new(path, format!("{path}: {}", ill_typed(field, &error))));
            }
        }
    }
}

/// How a reference to a secret is written that has the form of an option.
fn of_reference(message: &MessageDescriptor, text: &str) -> Option<String> {
    let mapping = elsewhere::mapping_for(text).filter(|_| message.name() == "SecretReference")?;
    Some(format!(", such as {mapping}"))
}

/// Whether the values of a map are texts.
fn holds_texts(entry: &MessageDescriptor) -> bool {
    entry.is_map_entry() && matches!(entry.map_entry_value_field().kind(), FieldKind::String)
}

/// The path of a key of a map.
fn of_key(path: &str, key: &str) -> String {
    match key.contains(|c: char| !c.is_alphanumeric() && !"_-".contains(c)) {
        true => format!("{path}[{key:?}]"),
        false => format!("{path}.{key}"),
    }
}

/// Says that YAML takes a value for something else than a text. It is not told: it may be a secret.
fn no_text(path: &str, value: &Value) -> Wrong {
    let quoted = if matches!(value, Value::Bool(_) | Value::Number(_)) { ": quote it" } else { "" };
    Wrong::new(path, format!("{path}: must be a string{quoted}"))
}

/// Says what a value must be.
fn ill_typed(field: &FieldDescriptor, error: &serde_json::Error) -> String {
    match field.kind() {
        FieldKind::Message(inner) if inner.full_name() == "google.protobuf.Duration" => {
            "must be a duration in seconds, such as 30s".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Returns whether a message is part of the Trunkline API. Google's messages have a JSON form of their own.
fn is_trunkline(message: &MessageDescriptor) -> bool {
    message.full_name().starts_with("trunkline.")
}

fn unknown(message: &MessageDescriptor, key: &str, path: &str) -> String {
    if let Some(inner) = below(message, key) {
        return format!(
            "unknown field `{path}`; did you mean `{}{inner}`?",
            path.strip_suffix(key).unwrap_or_default()
        );
    }
    let names: Vec<_> = message.fields().map(|field| field.json_name().to_owned()).collect();
    match nearest(key, names.iter().map(String::as_str)) {
        Some(name) => format!("unknown field `{path}`; did you mean `{name}`?"),
        None => format!("unknown field `{path}`"),
    }
}

/// Finds a field that is not here, but in the messages here or below them: `meta.labels` for `labels`. The nearest is meant; of
/// several that are as near nobody knows which.
fn below(message: &MessageDescriptor, key: &str) -> Option<String> {
    let mut level = vec![(String::new(), message.clone())];
    for _ in 0..MAX_DEPTH {
        level = level.iter().flat_map(|(path, message)| inner(path, message)).collect();
        let mut found = level.iter().filter(|(_, inner)| inner.get_field_by_json_name(key).is_some());
        match (found.next(), found.next()) {
            (Some((path, _)), None) => return Some(format!("{path}{key}")),
            (None, _) => {}
            _ => return None,
        }
    }
    None
}

/// The messages in a message that somebody may write, and what stands before their fields.
fn inner(path: &str, message: &MessageDescriptor) -> Vec<(String, MessageDescriptor)> {
    let single = message.fields().filter(|field| !field.is_list() && !field.is_map());
    let written = single.filter(|field| !rules::of(field).output_only);
    let messages = written.filter_map(|field| match field.kind() {
        FieldKind::Message(inner) if is_trunkline(&inner) => {
            Some((format!("{path}{}.", field.json_name()), inner))
        }
        _ => None,
    });
    messages.collect()
}

/// Says which values there are.
fn no_value(kind: &EnumDescriptor, word: &str) -> String {
    let choices = words::choices(kind);
    let hint = did_you_mean(word, choices.iter().map(String::as_str));
    format!("must be {}, not {word:?}{hint}", words::one_of(&choices))
}
