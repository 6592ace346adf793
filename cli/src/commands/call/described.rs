//! What is known of a tool, for whoever is about to call it. Pure.

use mcp::json;
use serde_json::Value;

use crate::client::signature;

/// Describes a tool of a server from its definition (raw JSON): what it does, its arguments, and how to call it.
pub fn tool(server: &str, definition: &str) -> String {
    let read = json::members(definition, ["name", "inputSchema", "description"]);
    let [name, schema, description] = read.unwrap_or_default();
    let schema: Value = schema.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
    let mut text = signature::tool(definition).0 + "\n";
    for line in signature::text(description).trim().lines() {
        text.push_str(&format!("  {}\n", printable::line(line)));
    }
    let arguments = arguments(&schema);
    if !arguments.is_empty() {
        text.push_str("\nArguments:\n");
        text.extend(arguments);
    }
    let example = example(server, &signature::text(name), &schema);
    text + &format!("\nExample:\n  {}\n", printable::line(&example))
}

fn is_required(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().is_some_and(|names| names.iter().any(|known| known == name))
}

/// One line for every argument, and one for what it means.
fn arguments(schema: &Value) -> Vec<String> {
    let properties = schema["properties"].as_object().into_iter().flatten();
    let line = |(name, property): (&String, &Value)| {
        let kind = signature::type_of(property, schema);
        let optional = if is_required(schema, name) { "" } else { ", optional" };
        let default = match &property["default"] {
            Value::Null => String::new(),
            value => format!(", default {value}"),
        };
        let mut text = format!("  {}\n", printable::line(&format!("{name}  ({kind}{optional}{default})")));
        for line in property["description"].as_str().unwrap_or_default().trim().lines() {
            text.push_str(&format!("      {}\n", printable::line(line.trim())));
        }
        text
    };
    properties.map(line).collect()
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
            tool("dev", definition),
            "get(zone: string, tags: array, [count: integer = 5])\n  Gets it.\n  Or not.\n\nArguments:\n  \
             count  (integer, optional, default 5)\n  tags  (array)\n  zone  (string)\n      Where.\\u{1b}[2J\n\n\
             Example:\n  mcpctl call dev get zone=TEXT tags:=JSON\n"
        );
        assert_eq!(tool("dev", "[]"), "()\n\nExample:\n  mcpctl call dev \n");
    }
}
