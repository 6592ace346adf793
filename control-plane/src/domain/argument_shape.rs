//! What arguments of tools and prompts can be, as far as their definitions say so. What is not understood can be anything.
//!
//! It must not know rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use access::rule::{Constant, Kinds, Shape};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Members, values and levels that are looked at.
const MAX_MEMBERS: usize = 256;
const MAX_VALUES: usize = 256;
const MAX_DEPTH: usize = 8;
/// What says more than is understood here.
const BEYOND: [&str; 10] = [
    "$ref",
    "$dynamicRef",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "dependentSchemas",
    "unevaluatedProperties",
    "prefixItems",
];

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Definition {
    input_schema: Option<Value>,
    output_schema: Option<Value>,
    arguments: Option<Vec<Argument>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Argument {
    name: String,
}

/// The arguments of a tool. `None`: anything.
pub(super) fn of_tool(definition_json: &str) -> Option<Arc<Shape>> {
    let definition: Definition = serde_json::from_str(definition_json).ok()?;
    let shape = shape(&definition.input_schema?, 0, Others::UnlessSaid);
    (shape != Shape::default()).then(|| Arc::new(Shape { kinds: Kinds::MAP, ..shape }))
}

/// What the structured content of a tool can be.
#[derive(Debug, PartialEq)]
pub struct Results {
    /// As its schema has it.
    pub possible: Shape,
    /// The same without members that its schema does not list.
    pub listed: Shape,
}

/// The results of a tool. `None`: anything.
pub(super) fn results_of_tool(definition_json: &str) -> Option<Arc<Results>> {
    let definition: Definition = serde_json::from_str(definition_json).ok()?;
    let schema = definition.output_schema?;
    let [possible, listed] = [Others::IfSaid, Others::UnlessSaid].map(|others| shape(&schema, 0, others));
    (listed != Shape::default()).then(|| Arc::new(Results { possible, listed }))
}

/// When an object is taken to have no members but those that its schema lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    /// Where the schema does not say that there are others.
    UnlessSaid,
    /// Where it says that there are none.
    IfSaid,
}

/// The arguments of a prompt, which are strings.
pub(super) fn of_prompt(definition_json: &str) -> Option<Arc<Shape>> {
    let definition: Definition = serde_json::from_str(definition_json).ok()?;
    let arguments = definition.arguments.unwrap_or_default().into_iter().take(MAX_MEMBERS);
    let text = Shape { kinds: Kinds::TEXT, ..Shape::default() };
    let members = arguments.map(|argument| (argument.name, text.clone())).collect();
    Some(Arc::new(Shape { kinds: Kinds::MAP, members: Some(members), ..Shape::default() }))
}

fn shape(schema: &Value, depth: usize, others: Others) -> Shape {
    let Value::Object(schema) = schema else { return Shape::default() };
    if depth == MAX_DEPTH || BEYOND.iter().any(|word| schema.contains_key(*word)) {
        return Shape::default();
    }
    let values = values(schema);
    let said = schema.get("type").map_or(Kinds::ALL, kinds);
    let of_values = values.as_ref().map(|values| values.iter().fold(Kinds::NONE, |all, v| all.or(v.kind())));
    Shape {
        // A whole number may be written with a fraction of nothing.
        kinds: of_values.unwrap_or(said),
        values,
        members: members(schema, depth, others),
        required: required(schema),
        items: schema.get("items").map(|items| Box::new(shape(items, depth + 1, others))),
    }
}

fn kinds(said: &Value) -> Kinds {
    match said {
        Value::String(word) => kind(word),
        Value::Array(words) => {
            let found = words.iter().map(|word| word.as_str().map_or(Kinds::ALL, kind));
            found.fold(Kinds::NONE, Kinds::or)
        }
        _ => Kinds::ALL,
    }
}

fn kind(word: &str) -> Kinds {
    match word {
        "null" => Kinds::NULL,
        "boolean" => Kinds::BOOL,
        "integer" => Kinds::INT,
        "number" => Kinds::NUMBER,
        "string" => Kinds::TEXT,
        "array" => Kinds::LIST,
        "object" => Kinds::MAP,
        _ => Kinds::ALL,
    }
}

/// The values of `enum` or `const`, if they are few, and none of them is a list or an object.
fn values(schema: &Map<String, Value>) -> Option<Vec<Constant>> {
    let all = match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => std::slice::from_ref(value),
        (None, Some(Value::Array(values))) if values.len() <= MAX_VALUES => values.as_slice(),
        _ => return None,
    };
    all.iter().map(constant).collect()
}

fn constant(value: &Value) -> Option<Constant> {
    match value {
        Value::Null => Some(Constant::Null),
        Value::Bool(value) => Some(Constant::Bool(*value)),
        Value::Number(value) => {
            value.as_i64().map(Constant::Int).or_else(|| value.as_f64().map(Constant::Double))
        }
        Value::String(value) => Some(Constant::Text(value.clone())),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// The members that are always there.
fn required(schema: &Map<String, Value>) -> Vec<String> {
    let named = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    named.filter_map(Value::as_str).take(MAX_MEMBERS).map(str::to_owned).collect()
}

/// The members that an object can have. One of arguments that is not listed is taken for a mistake unless the schema says that there are
/// others.
fn members(schema: &Map<String, Value>, depth: usize, others: Others) -> Option<BTreeMap<String, Shape>> {
    let unsaid = Value::Bool(others == Others::IfSaid);
    let others_are = schema.get("additionalProperties").unwrap_or(&unsaid);
    let is_open = others_are != &Value::Bool(false) || schema.contains_key("patternProperties");
    match schema.get("properties") {
        Some(Value::Object(properties)) if !is_open && properties.len() <= MAX_MEMBERS => {
            let members = properties.iter().map(|(name, of)| (name.clone(), shape(of, depth + 1, others)));
            Some(members.collect())
        }
        None if schema.get("additionalProperties") == Some(&Value::Bool(false)) => Some(BTreeMap::new()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use access::rule::Program;

    use super::*;

    fn issues(schema: &str, when: &str) -> Vec<String> {
        let shape = of_tool(&format!("{{\"name\":\"x\",\"inputSchema\":{schema}}}")).unwrap_or_default();
        let program = Program::parse(when).unwrap();
        program.issues(&shape).iter().map(|issue| program.error(issue, "tool dev_x").to_string()).collect()
    }

    #[test]
    fn a_path_leads_where_a_result_may_have_a_member() {
        let schema = |more: &str| {
            format!(
                r#"{{"type":"object","properties":{{"email":{{"type":"string"}},
                "people":{{"type":"array","items":{{"type":"object","properties":{{"iban":{{}}}}{more}}}}},"any":{{"anyOf":[]}}}}{more}}}"#
            )
        };
        let closed = schema(r#","additionalProperties":false"#);
        for (schema, path, possible, listed) in [
            (closed.as_str(), "email", true, true),
            (&closed, "mail", false, false),
            (&closed, "people.*.iban", true, true),
            (&closed, "people.iban", false, false),
            (&closed, "people.*.bic", false, false),
            (&closed, "email.x", false, false),
            (&closed, "**.iban", true, true),
            (&closed, "*.*.*", true, true),
            (&closed, "any.x.y", true, true),
            (&closed, "**.x", true, true),
            (&schema(""), "mail", true, false),
            (&schema(""), "people.*.bic", true, false),
            (&schema(""), "email.x", true, false),
            (&schema(r#","additionalProperties":true"#), "mail", true, true),
        ] {
            let results = results_of_tool(&format!("{{\"outputSchema\":{schema}}}")).unwrap();
            let path = access::rule::FieldPath::parse(path).unwrap();
            let found = [&results.possible, &results.listed].map(|shape| path.may_lead_into(shape));
            assert_eq!(found, [possible, listed], "{path} {schema}");
        }
        assert_eq!(results_of_tool("{}"), None);
        assert_eq!(results_of_tool("{\"outputSchema\":true}"), None);
    }

    #[test]
    fn what_a_schema_rules_out_is_told() {
        let schema = r#"{"type":"object","properties":{
            "file":{"type":"string"},"mode":{"enum":["r","w"]},"count":{"type":"integer"},"size":{"type":["number","null"]},
            "tags":{"type":"array","items":{"type":"string"}},"deep":{"type":"object","properties":{"a":{"type":"boolean"}}},
            "any":{},"open":{"type":"object","additionalProperties":true,"properties":{"a":{}}},"other":{"$ref":"x"}}}"#;
        for (when, expected) in [
            ("args.file.startsWith('/srv')", ""),
            (
                "args.path == 'x'",
                "line 1, column 6: tool dev_x has no argument path; it has any, count, deep, file, mode, open, other, size, tags",
            ),
            (
                "args.file == 5",
                "line 1, column 11: this is always false: a string is never a number (tool dev_x)",
            ),
            (
                "args.mode == 'x'",
                "line 1, column 11: this is always false: it is one of \"r\", \"w\" (tool dev_x)",
            ),
            (
                "args.mode != 'x'",
                "line 1, column 11: this is always true: it is one of \"r\", \"w\" (tool dev_x)",
            ),
            (
                "args.mode in ['x', 'y']",
                "line 1, column 11: this is always false: it is one of \"r\", \"w\" (tool dev_x)",
            ),
            ("args.mode == 'r'", ""),
            ("args.count > 5 && args.count + 1 < 7 && args.count == 5.0", ""),
            (
                "args.count.startsWith('x')",
                "line 1, column 12: a string is expected here, and this is a number (tool dev_x)",
            ),
            ("args.size > 5 || args.size == null || args.size < 5.5", ""),
            ("args.tags.all(t, t == 'a')", ""),
            (
                "args.tags.all(t, t > 1)",
                "line 1, column 20: > does not compare a string and a number (tool dev_x)",
            ),
            (
                "args.file.all(t, t == 1)",
                "line 1, column 11: all and exists are of a list, and this is a string (tool dev_x)",
            ),
            ("args.deep.b == 1", "line 1, column 11: tool dev_x has no argument b; it has a"),
            ("args.deep.a", ""),
            ("args.any.x.y == 1 && args.open.x == 1 && args.other.z == 2", ""),
            (
                "!has(args.path)",
                "line 1, column 2: tool dev_x has no argument path; it has any, count, deep, file, mode, open, other, size, tags",
            ),
        ] {
            assert_eq!(issues(schema, when).join("|"), expected, "{when}");
        }
        for (when, expected) in [
            ("args.file == 'x'", Some("file")),
            ("args['mode'] == 'r'", Some("mode")),
            ("has(args.file) && args.file == 'x'", None),
            ("'file' in args && args.file == 'x' && args.count > 1", Some("count")),
            ("args.tags.all(t, t == 'a')", Some("tags")),
            ("has(args.deep.a)", Some("deep")),
            ("args.any == 1 && args.nothing == 1", None),
        ] {
            let schema = schema.replace(
                "\"type\":\"object\",\"properties\":{\n",
                "\"required\":[\"any\"],\"properties\":{\n",
            );
            let shape = of_tool(&format!("{{\"inputSchema\":{schema}}}")).unwrap();
            assert_eq!(Program::parse(when).unwrap().optional(&shape), expected, "{when}");
        }
        assert_eq!(issues("true", "args.x == 1"), [""; 0]);
        assert_eq!(issues("{\"type\":\"object\"}", "args.x == 1"), [""; 0]);
        let none = r#"{"type":"object","additionalProperties":false}"#;
        assert_eq!(
            issues(none, "args.x == 1"),
            ["line 1, column 6: tool dev_x has no argument x; it has none"]
        );
    }
}
