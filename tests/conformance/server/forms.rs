//! The forms that users are asked to fill in: JSON schemas.

use serde_json::{Value, json};

pub(crate) fn confirmation() -> Value {
    json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]})
}

pub(crate) fn contact() -> Value {
    let properties = json!({
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    });
    json!({"type": "object", "properties": properties, "required": ["username", "email"]})
}

/// SEP-1034: a default for every primitive type.
pub(crate) fn defaults() -> Value {
    let properties = json!({
        "name": {"type": "string", "description": "Name", "default": "John Doe"},
        "age": {"type": "integer", "description": "Age", "default": 30},
        "score": {"type": "number", "description": "Score", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "description": "Verified", "default": true},
    });
    json!({"type": "object", "properties": properties})
}

/// SEP-1330: one or several, titled or not, and the older way of giving titles.
pub(crate) fn choices() -> Value {
    let titled = |last: &str| {
        json!([
            {"const": "value1", "title": format!("First {last}")},
            {"const": "value2", "title": format!("Second {last}")},
            {"const": "value3", "title": format!("Third {last}")},
        ])
    };
    let plain = json!(["option1", "option2", "option3"]);
    let names = json!(["Option One", "Option Two", "Option Three"]);
    let properties = json!({
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": titled("Option")},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": names},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled("Choice")}},
    });
    json!({"type": "object", "properties": properties})
}
