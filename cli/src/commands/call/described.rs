//! What is known of a tool, for whoever is about to call it. Pure.

use mcp::json;
use serde_json::Value;

use crate::client::signature;
use crate::output::sections::{self, Section, hang};

/// How far what a tool does is indented.
const BELOW: usize = 2;

/// Describes a tool of a server from its definition (raw JSON), in lines of this width: what it does, its arguments, and how to
/// call it.
pub fn tool(server: &str, definition: &str, width: Option<usize>) -> String {
    let read = json::members(definition, ["name", "inputSchema", "description"]);
    let [name, schema, description] = read.unwrap_or_default();
    let schema: Value = schema.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
    let mut text = hang(&signature::tool(definition).0, 0, BELOW, width);
    text += &hang(signature::text(description).trim(), BELOW, BELOW, width);
    let arguments = sections::render(&[arguments(&schema)], width);
    if !arguments.is_empty() {
        text.push('\n');
        text.push_str(&arguments);
    }
    let example = example(server, &signature::text(name), &schema);
    text + &format!("\nExample:\n  {}\n", printable::line(&example))
}

fn is_required(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().is_some_and(|names| names.iter().any(|known| known == name))
}

/// What every argument is, beside its name, and what it means.
fn arguments(schema: &Value) -> Section {
    let mut section = Section::new("Arguments:");
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let kind = signature::type_of(property, schema);
        let optional = if is_required(schema, name) { "" } else { ", optional" };
        let default = match &property["default"] {
            Value::Null => String::new(),
            value => format!(", default {value}"),
        };
        let meaning = property["description"].as_str().unwrap_or_default().trim();
        section.field(name, format!("{kind}{optional}{default}\n{meaning}"));
    }
    section
}

/// A command line with everything that is required.
fn example(server: &str, name: &str, schema: &Value) -> String {
    let needed = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let value = |name: &str| match schema["properties"][name]["type"].as_str() {
        Some("integer" | "number") => "1",
        Some("boolean") => "true",
        Some("array" | "object") => "JSON",
        _ => "TEXT",
    };
    let pairs: Vec<_> = needed
        .map(|name| match value(name) {
            "JSON" => format!(" {name}:=JSON"),
            value => format!(" {name}={value}"),
        })
        .collect();
    format!("mcpctl call {server} {name}{}", pairs.concat())
}

#[cfg(test)]
mod tests {
    use super::tool;

    #[test]
    fn a_tool_is_described_for_whoever_calls_it() {
        let definition = r#"{"name":"get","description":"Gets it.\nOr not.","inputSchema":{"required":["zone","tags"],"properties":{
            "count":{"type":"integer","default":5},"tags":{"type":"array"},"zone":{"type":"string","description":"Where.\u001b[2J"}}}}"#;
        assert_eq!(
            tool("dev", definition, None),
            "get(zone: string, tags: array, [count: integer = 5])\n  Gets it.\n  Or not.\n\nArguments:\n  \
             count:  integer, optional, default 5\n  tags:   array\n  zone:   string\n          Where.\\u{1b}[2J\n\n\
             Example:\n  mcpctl call dev get zone=TEXT tags:=JSON\n"
        );
        let narrow = tool("dev", definition, Some(36));
        let above = narrow.split("\nExample:").next().unwrap();
        assert!(above.lines().all(|line| line.chars().count() <= 36), "{narrow}");
        assert_eq!(tool("dev", "[]", None), "()\n\nExample:\n  mcpctl call dev \n");
    }
}
