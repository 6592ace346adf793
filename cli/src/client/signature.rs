//! Signatures of tools and prompts, such as `get_current_time(timezone: string)`. Pure.

use mcp::json;
use serde_json::Value;

/// The longest list of values that is written out.
const MAX_VALUES: usize = 6;
/// How deep types are written within each other.
const MAX_DEPTH: usize = 4;

/// Returns the signature of a tool and the first line of its description, from its definition (raw JSON).
pub fn tool(definition: &str) -> (String, String) {
    tool_as(definition, &name(definition))
}

/// Returns the same under another name.
pub fn tool_as(definition: &str, name: &str) -> (String, String) {
    let [schema, description] = json::members(definition, ["inputSchema", "description"]).unwrap_or_default();
    let schema: Value = schema.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
    let parameters: Vec<_> = parameters(&schema).into_iter().map(|(parameter, _)| parameter).collect();
    (line(&format!("{name}({})", parameters.join(", "))), first_line(description))
}

/// Returns the signature of a prompt and the first line of its description.
pub fn prompt(definition: &str) -> (String, String) {
    prompt_as(definition, &name(definition))
}

/// Returns the same under another name.
pub fn prompt_as(definition: &str, name: &str) -> (String, String) {
    let [arguments, description] =
        json::members(definition, ["arguments", "description"]).unwrap_or_default();
    let arguments: Value = arguments.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
    let one = |argument: &Value| {
        let name = argument["name"].as_str().unwrap_or_default();
        if argument["required"] == true { name.to_owned() } else { format!("[{name}]") }
    };
    let arguments: Vec<_> = arguments.as_array().into_iter().flatten().map(one).collect();
    (line(&format!("{name}({})", arguments.join(", "))), first_line(description))
}

fn name(definition: &str) -> String {
    let [name] = json::members(definition, ["name"]).unwrap_or_default();
    text(name)
}

/// The text that a raw value is; empty for another one.
pub fn text(raw: Option<&str>) -> String {
    raw.and_then(readable).unwrap_or_default()
}

/// The text that a raw value is, with U+FFFD for half of a surrogate pair, which servers may send and UTF-8 cannot say; `None` for
/// another value.
pub fn readable(raw: &str) -> Option<String> {
    let whole = json::without_halves(raw);
    json::string(whole.as_deref().unwrap_or(raw)).ok().map(std::borrow::Cow::into_owned)
}

/// The first line of a text.
pub fn first_line(raw: Option<&str>) -> String {
    line(text(raw).trim().lines().next().unwrap_or_default())
}

fn line(text: &str) -> String {
    printable::line(text).into_owned()
}

/// Returns the parameters of a schema and their descriptions: those that are required first, in the order of the schema;
/// the others are in brackets, with their defaults.
pub fn parameters(schema: &Value) -> Vec<(String, String)> {
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object();
    let optional = properties.into_iter().flatten().filter(|(name, _)| !required.contains(&name.as_str()));
    let description = |property: &Value| property["description"].as_str().unwrap_or_default().to_owned();
    let needed = required.iter().map(|name| {
        let property = &schema["properties"][name];
        (format!("{name}: {}", type_of(property, schema)), description(property))
    });
    let optional = optional.map(|(name, property)| {
        let default = match &property["default"] {
            Value::Null => String::new(),
            value => format!(" = {value}"),
        };
        (format!("[{name}: {}{default}]", type_of(property, schema)), description(property))
    });
    needed.chain(optional).collect()
}

/// Writes a type in a word or a few.
pub fn type_of(property: &Value, root: &Value) -> String {
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
                "get(zone: string, [count: integer = 5], [kind: object], [maybe: integer|null], \
                 [mode: \"a\"|\"b\"], [tags: string[]], [x: any])"
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
        assert_eq!(prompt(definition), ("review(code, [style])".to_owned(), String::new()));
    }

    #[test]
    fn a_schema_that_refers_to_itself_has_an_end() {
        let definition = r##"{"name":"tree","inputSchema":{"properties":{"node":{"$ref":"#/properties/node"},
            "list":{"type":"array","items":{"$ref":"#/properties/list"}}}}}"##;
        let (signature, _) = tool(definition);
        assert!(signature.starts_with("tree("), "{signature}");
    }
}
