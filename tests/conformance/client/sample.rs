//! Arguments that fit a schema.

use rmcp::model::JsonObject;
use serde_json::{Value, json};

/// One value for every property; a property named `schema` gets the schema that is given.
pub(crate) fn arguments(schema: &JsonObject, other_schema: &Value) -> JsonObject {
    let properties = schema.get("properties").and_then(Value::as_object);
    let value = |(name, property): (&String, &Value)| {
        let value = if name == "schema" { other_schema.clone() } else { one(property) };
        (name.clone(), value)
    };
    properties.into_iter().flatten().map(value).collect()
}

/// The default where there is one, else something of the right type.
pub(crate) fn one(property: &Value) -> Value {
    if let Some(default) = property.get("default") {
        return default.clone();
    }
    if let Some(choice) = property.pointer("/enum/0").or_else(|| property.pointer("/oneOf/0/const")) {
        return choice.clone();
    }
    match property.get("type").and_then(Value::as_str) {
        Some("number" | "integer") => json!(5),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => json!("sample"),
    }
}
