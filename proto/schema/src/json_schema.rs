//! JSON Schema (2020-12) of resource files, for editors. It takes what `apply` takes, and no field that does not exist.

use std::collections::BTreeMap;

use prost_reflect::{FieldDescriptor, MessageDescriptor, OneofDescriptor};
use serde_json::{Map, Value, json};
use trunkline::common::v1::FieldRules;

use crate::contract::kinds;
use crate::fields::{self, Entry, Shape, shape};
use crate::prose;
use crate::rules;
use crate::words;

/// The definition of secrets that are kept elsewhere.
const REFERENCE: &str = "SecretReference";

/// Returns the schema of a document: a resource, or a list of resources.
pub fn document() -> Value {
    let mut definitions = BTreeMap::from([(REFERENCE.to_owned(), secret_reference())]);
    let kinds = kinds();
    for kind in &kinds {
        let mut schema = message_schema(kind, &mut definitions);
        add_kind(kind, &mut schema);
        definitions.insert(kind.name().to_owned(), schema);
    }
    let names: Vec<&str> = kinds.iter().map(MessageDescriptor::name).collect();
    definitions.insert("Document".into(), any_kind(&names));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Trunkline resource file",
        "description": "A resource of Trunkline, or a list of them. `mcpctl apply -f FILE` applies it.",
        "type": ["object", "array", "null"],
        "if": { "type": "object" },
        "then": { "$ref": "#/$defs/Document" },
        "else": { "items": { "$ref": "#/$defs/Document" } },
        "$defs": definitions,
    })
}

/// A resource of whatever kind it says it is, so that errors are those of that kind alone.
fn any_kind(names: &[&str]) -> Value {
    let cases = names.iter().map(|name| {
        json!({
            "if": { "properties": { "kind": { "const": name } }, "required": ["kind"] },
            "then": { "$ref": format!("#/$defs/{name}") },
        })
    });
    json!({
        "type": "object",
        "required": ["kind"],
        "properties": { "kind": { "enum": names, "description": "The kind of the resource." } },
        "allOf": cases.collect::<Vec<_>>(),
    })
}

fn add_kind(kind: &MessageDescriptor, schema: &mut Value) {
    schema["properties"]["kind"] = json!({ "const": kind.name() });
}

fn secret_reference() -> Value {
    let one = |name: &str, told: &str| {
        json!({
            "required": [name],
            "additionalProperties": false,
            "properties": { name: { "type": "string", "description": told } },
        })
    };
    json!({
        "description": "A secret that is not written here.",
        "type": "object",
        "oneOf": [
            one("fromEnv", "The environment variable of `mcpctl` that holds it."),
            one("fromFile", "The file that holds it; its path begins at this file."),
            one("literal", "The secret itself, whatever it looks like."),
        ],
    })
}

/// Returns the schema of a message, and adds those of the messages in it to the definitions.
fn message_schema(message: &MessageDescriptor, definitions: &mut BTreeMap<String, Value>) -> Value {
    let mut properties = Map::new();
    let (mut required, mut choices) = (Vec::new(), Vec::new());
    for entry in fields::entries(message) {
        let of_entry: Vec<FieldDescriptor> = match &entry {
            Entry::Field(field) => vec![field.clone()],
            Entry::Choice(choice) => choice.fields().collect(),
        };
        for field in &of_entry {
            properties.insert(field.json_name().to_owned(), field_schema(field, definitions));
        }
        match &entry {
            Entry::Field(field) if rules::of(field).required => required.push(field.json_name().to_owned()),
            Entry::Field(_) => {}
            Entry::Choice(choice) => choices.push(choice_schema(choice)),
        }
    }
    let mut schema = json!({
        "description": prose::of_message(message),
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    if !choices.is_empty() {
        schema["allOf"] = choices.into();
    }
    schema
}

/// At most one of the fields is there, and one at least where that is a rule.
fn choice_schema(choice: &OneofDescriptor) -> Value {
    let mut cases: Vec<Value> =
        choice.fields().map(|field| json!({ "required": [field.json_name()] })).collect();
    if !rules::of_choice(choice).required {
        cases.push(json!({ "not": { "anyOf": cases } }));
    }
    json!({ "oneOf": cases })
}

fn field_schema(field: &FieldDescriptor, definitions: &mut BTreeMap<String, Value>) -> Value {
    let rules = rules::of(field);
    let mut value = value_schema(field, &rules, definitions);
    if rules.secret {
        value = json!({ "anyOf": [value, { "$ref": format!("#/$defs/{REFERENCE}") }] });
    }
    let mut schema = match (field.is_map(), field.is_list()) {
        (true, _) => map_schema(value, &rules),
        (_, true) => list_schema(value, &rules),
        _ => value,
    };
    if !rules.default_value.is_empty() {
        schema["default"] = rules.default_value.clone().into();
    }
    if rules.output_only {
        schema["readOnly"] = true.into();
    }
    schema["description"] = description(field, &rules).into();
    schema
}

fn map_schema(value: Value, rules: &FieldRules) -> Value {
    let mut schema = json!({ "type": "object", "additionalProperties": value });
    if !rules.key_pattern.is_empty() {
        schema["propertyNames"] = json!({ "pattern": whole(&rules.key_pattern) });
    }
    set_limit(&mut schema, "minProperties", rules.min_items);
    set_limit(&mut schema, "maxProperties", rules.max_items);
    schema
}

fn list_schema(value: Value, rules: &FieldRules) -> Value {
    let mut schema = json!({ "type": "array", "items": value });
    set_limit(&mut schema, "minItems", rules.min_items);
    set_limit(&mut schema, "maxItems", rules.max_items);
    schema
}

fn set_limit(schema: &mut Value, name: &str, limit: u32) {
    if limit > 0 {
        schema[name] = limit.into();
    }
}

/// Returns the schema of one value: of a list, one of its items; of a map, one of its values.
fn value_schema(
    field: &FieldDescriptor,
    rules: &FieldRules,
    definitions: &mut BTreeMap<String, Value>,
) -> Value {
    match shape(field) {
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer { large: true } => json!({ "type": ["integer", "string"] }),
        Shape::Integer { large: false } => json!({ "type": "integer" }),
        Shape::Number => json!({ "type": "number" }),
        Shape::Text => text_schema(rules),
        Shape::Duration => json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,9})?s$" }),
        Shape::Time => json!({ "type": "string", "format": "date-time" }),
        Shape::Word(of) => {
            let short = words::named_values(&of).map(|value| words::word(&value));
            let full = words::named_values(&of).map(|value| value.name().to_owned());
            json!({ "enum": short.chain(full).collect::<Vec<_>>() })
        }
        // What Trunkline alone writes is no concern of whoever writes a file.
        Shape::Message(_) if rules.output_only => json!({ "type": "object" }),
        Shape::Message(message) => {
            if !definitions.contains_key(message.name()) {
                let schema = message_schema(&message, definitions);
                definitions.insert(message.name().to_owned(), schema);
            }
            json!({ "$ref": format!("#/$defs/{}", message.name()) })
        }
    }
}

fn text_schema(rules: &FieldRules) -> Value {
    let mut schema = json!({ "type": "string" });
    // A character has at least one byte.
    set_limit(
        &mut schema,
        "maxLength",
        if rules.max_characters > 0 { rules.max_characters } else { rules.max_bytes },
    );
    if !rules.pattern.is_empty() {
        schema["pattern"] = whole(&rules.pattern).into();
    }
    schema
}

fn whole(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

/// What an editor shows beside a field.
fn description(field: &FieldDescriptor, rules: &FieldRules) -> String {
    let mut text = rules::untold(&prose::of_field(field), rules);
    let notes: Vec<String> =
        rules::flags(rules).into_iter().map(str::to_owned).chain(rules::notes(field)).collect();
    if !notes.is_empty() {
        text.push_str(&format!("\n\n({})", notes.join("; ")));
    }
    for value in fields::values(field).iter().filter(|_| !rules.output_only) {
        text.push_str(&format!("\n- {}: {}", words::word(value), prose::of_value(value)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let schema = document();
        let text = schema.to_string();
        let definitions = schema["$defs"].as_object().unwrap();
        for part in text.split("\"#/$defs/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(definitions.contains_key(name), "{name}");
        }
    }

    #[test]
    fn a_kind_has_its_fields_and_no_others() {
        let schema = document();
        let upstream = &schema["$defs"]["Upstream"];
        assert_eq!(upstream["additionalProperties"], false);
        assert_eq!(upstream["required"], json!(["name"]));
        assert_eq!(upstream["properties"]["kind"], json!({ "const": "Upstream" }));
        assert_eq!(
            upstream["allOf"],
            json!([
                { "oneOf": [{ "required": ["http"] }, { "required": ["tunnel"] }] },
                { "oneOf": [{ "required": ["mcp"] }, { "not": { "anyOf": [{ "required": ["mcp"] }] } }] },
            ])
        );
        let era = &schema["$defs"]["McpUpstream"]["properties"]["eraPolicy"];
        assert_eq!(
            era["enum"],
            json!(["auto", "modern", "legacy", "ERA_POLICY_AUTO", "ERA_POLICY_MODERN", "ERA_POLICY_LEGACY"])
        );
        assert_eq!(era["default"], "auto");
        let token = &schema["$defs"]["BearerCredential"]["properties"]["token"];
        assert_eq!(token["anyOf"][0]["maxLength"], 16384);
        assert_eq!(token["anyOf"][1]["$ref"], "#/$defs/SecretReference");
        assert!(!schema["$defs"].as_object().unwrap().contains_key("UpstreamStatus"));
    }
}
