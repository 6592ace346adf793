//! Signatures of tools and prompts, such as `get_current_time(timezone: string)`. Pure.

use mcp::json;
use serde_json::Value;

/// The longest list of values that is written out.
const MAX_VALUES: usize = 6;
/// How deep types are written within each other.
const MAX_DEPTH: usize = 4;

/// Returns the signature of a tool and the first line of its description, from its definition (raw JSON).
pub fn tool(definition: &str) -> (String, String) {
    let read = json::members(definition, ["name", "inputSchema", "description"]);
    let [name, schema, description] = read.unwrap_or_default();
    let schema: Value = schema.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
    (line(&format!("{}({})", text(name), parameters(&schema))), first_line(description))
}

/// Returns the same of a prompt.
pub fn prompt(definition: &str) -> (String, String) {
    let read = json::members(definition, ["name", "arguments", "description"]);
    let [name, arguments, description] = read.unwrap_or_default();
    let arguments: Value = arguments.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
    let one = |argument: &Value| {
        let mark = if argument["required"] == true { "" } else { "?" };
        format!("{}{mark}", argument["name"].as_str().unwrap_or_default())
    };
    let arguments: Vec<_> = arguments.as_array().into_iter().flatten().map(one).collect();
    (line(&format!("{}({})", text(name), arguments.join(", "))), first_line(description))
}

/// The text that a raw value is; empty for another one.
pub fn text(raw: Option<&str>) -> String {
    raw.and_then(|raw| json::string(raw).ok()).unwrap_or_default().into_owned()
}

/// The first line of a text.
pub fn first_line(raw: Option<&str>) -> String {
    line(text(raw).trim().lines().next().unwrap_or_default())
}

fn line(text: &str) -> String {
    printable::line(text).into_owned()
}

/// Writes the parameters of a schema: those that are required first, in the order of the schema.
fn parameters(schema: &Value) -> String {
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object();
    let optional = properties.into_iter().flatten().filter(|(name, _)| !required.contains(&name.as_str()));
    let needed =
        required.iter().map(|name| format!("{name}: {}", type_of(&schema["properties"][name], schema)));
    let optional = optional.map(|(name, property)| {
        let default = match &property["default"] {
            Value::Null => String::new(),
            value => format!(" = {value}"),
        };
        format!("{name}?: {}{default}", type_of(property, schema))
    });
    needed.chain(optional).collect::<Vec<_>>().join(", ")
}

/// Writes a type in a word or a few.
fn type_of(property: &Value, root: &Value) -> String {
    type_within(property, root, MAX_DEPTH)
}

/// The same, no deeper than so many types within each other: a schema may refer to itself.
fn type_within(property: &Value, root: &Value, depth: usize) -> String {
    if depth == 0 {
        return "any".to_owned();
    }
    let property = match property["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).unwrap_or(property),
        None => property,
    };
    if let Some(values) = property["enum"].as_array().filter(|values| values.len() <= MAX_VALUES) {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join("|");
    }
    match &property["type"] {
        Value::String(name) if name == "array" => match type_within(&property["items"], root, depth - 1) {
            items if items == "any" => "array".to_owned(),
            items if items.contains('|') => format!("({items})[]"),
            items => format!("{items}[]"),
        },
        Value::String(name) => name.clone(),
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("|"),
        _ => union(property, root, depth - 1),
    }
}

fn union(property: &Value, root: &Value, depth: usize) -> String {
    match ["anyOf", "oneOf"].iter().find_map(|keyword| property[keyword].as_array()) {
        Some(parts) => parts.iter().map(|part| type_within(part, root, depth)).collect::<Vec<_>>().join("|"),
        None => "any".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_written_as_a_function() {
        let definition = r##"{"name":"get","description":"\nGets it.\nMore.","inputSchema":{"required":["zone"],
            "properties":{"zone":{"type":"string"},"count":{"type":"integer","default":5},"tags":{"type":"array","items":{"type":"string"}},
            "mode":{"enum":["a","b"]},"maybe":{"anyOf":[{"type":"integer"},{"type":"null"}]},"kind":{"$ref":"#/$defs/k"},"x":true},
            "$defs":{"k":{"type":"object"}}}}"##;
        assert_eq!(
            tool(definition),
            (
                "get(zone: string, count?: integer = 5, kind?: object, maybe?: integer|null, \
                 mode?: \"a\"|\"b\", tags?: string[], x?: any)"
                    .to_owned(),
                "Gets it.".to_owned()
            )
        );
        assert_eq!(tool(r#"{"name":"now\u001b[2J"}"#).0, "now\\u{1b}[2J()");
        assert_eq!(tool("[]").0, "()");
    }

    #[test]
    fn a_prompt_names_its_arguments() {
        let definition =
            r#"{"name":"review","arguments":[{"name":"code","required":true},{"name":"style"}]}"#;
        assert_eq!(prompt(definition), ("review(code, style?)".to_owned(), String::new()));
    }

    #[test]
    fn a_schema_that_refers_to_itself_has_an_end() {
        let definition = r##"{"name":"tree","inputSchema":{"properties":{"node":{"$ref":"#/properties/node"},
            "list":{"type":"array","items":{"$ref":"#/properties/list"}}}}}"##;
        let (signature, _) = tool(definition);
        assert!(signature.starts_with("tree("), "{signature}");
    }
}
