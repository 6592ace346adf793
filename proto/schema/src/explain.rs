//! A place in a resource, told as text for a terminal and as data for programs.

use prost_reflect::{EnumValueDescriptor, FieldDescriptor, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::contract::below;
use crate::fields::{self, Entry, entries, type_name, values};
use crate::layout::wrap;
use crate::prose;
use crate::topic::Topic;
use crate::words::word;

/// Spaces before what belongs to the line above.
const STEP: usize = 2;

/// Renders a place in lines of at most `width` characters: what it is, and its fields. `names` are other names of the kind.
pub fn text(topic: &Topic, names: &[&str], width: usize) -> String {
    let mut text = head(topic, names);
    text.push_str("\nDESCRIPTION:\n");
    text.push_str(&wrap(&description(topic), STEP * 2, width));
    let values = topic.field().map(values).unwrap_or_default();
    if !values.is_empty() {
        text.push_str("\nVALUES:\n");
        values.iter().for_each(|value| text.push_str(&value_text(value, width)));
    }
    if let Some(message) = topic.message() {
        text.push_str("\nFIELDS:\n");
        text.push_str(&fields_text(&message, width));
    }
    text
}

/// Renders a place and the names and types of all fields below it.
pub fn tree(topic: &Topic, names: &[&str], width: usize) -> String {
    let mut text = head(topic, names);
    text.push_str("\nDESCRIPTION:\n");
    text.push_str(&wrap(&description(topic), STEP * 2, width));
    if let Some(message) = topic.message() {
        text.push_str("\nFIELDS:\n");
        add_tree(&message, STEP, &mut text);
    }
    text
}

/// Returns a place as data. `deep` goes down to the last field.
pub fn document(topic: &Topic, deep: bool) -> Value {
    let mut document = Map::from_iter([("kind".to_owned(), topic.kind.name().into())]);
    if let Some(field) = topic.field() {
        document.insert("field".into(), topic.path().into());
        document.insert("type".into(), type_name(field).into());
    }
    document.insert("description".into(), description(topic).into());
    let values = topic.field().map(values).unwrap_or_default();
    if !values.is_empty() {
        document.insert("values".into(), values.iter().map(value_document).collect());
    }
    if let Some(message) = topic.message() {
        document.insert(
            "fields".into(),
            fields::of(&message).iter().map(|field| field_document(field, deep)).collect(),
        );
    }
    Value::Object(document)
}

/// Returns what is said of a place: of a field, and of what it holds.
pub fn description(topic: &Topic) -> String {
    let field = topic.field().map(prose::of_field).unwrap_or_default();
    let message = topic.message().map(|message| prose::of_message(&message)).unwrap_or_default();
    [field, message].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn head(topic: &Topic, names: &[&str]) -> String {
    let mut text = format!("KIND:   {} ({})\n", topic.kind.name(), names.join(", "));
    if let Some(field) = topic.field() {
        text.push_str(&format!("FIELD:  {} <{}>\n", topic.path(), type_name(field)));
    }
    text
}

fn value_text(value: &EnumValueDescriptor, width: usize) -> String {
    format!("{}{}\n{}", " ".repeat(STEP), word(value), wrap(&prose::of_value(value), STEP * 2, width))
}

fn fields_text(message: &MessageDescriptor, width: usize) -> String {
    let texts = entries(message).into_iter().map(|entry| match entry {
        Entry::Field(field) => field_text(&field, STEP, width),
        Entry::Choice(choice) => {
            let fields = choice.fields().map(|field| field_text(&field, STEP * 2, width));
            let fields: Vec<_> = fields.collect();
            let told = wrap(&prose::of_choice(&choice), STEP * 2, width);
            format!("{}one of:\n{told}\n{}", " ".repeat(STEP), fields.join("\n"))
        }
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn field_text(field: &FieldDescriptor, indent: usize, width: usize) -> String {
    let mut text = format!("{}{} <{}>\n", " ".repeat(indent), field.json_name(), type_name(field));
    let words: Vec<_> = values(field).iter().map(word).collect();
    if !words.is_empty() {
        text.push_str(&wrap(&format!("one of: {}", words.join(", ")), indent, width));
    }
    text.push_str(&wrap(&prose::of_field(field), indent + STEP, width));
    text
}

fn add_tree(message: &MessageDescriptor, indent: usize, text: &mut String) {
    for entry in entries(message) {
        match entry {
            Entry::Field(field) => add_branch(&field, indent, text),
            Entry::Choice(choice) => {
                text.push_str(&format!("{}one of:\n", " ".repeat(indent)));
                choice.fields().for_each(|field| add_branch(&field, indent + STEP, text));
            }
        }
    }
}

fn add_branch(field: &FieldDescriptor, indent: usize, text: &mut String) {
    text.push_str(&format!("{}{} <{}>\n", " ".repeat(indent), field.json_name(), type_name(field)));
    if let Some(message) = below(field) {
        add_tree(&message, indent + STEP, text);
    }
}

fn value_document(value: &EnumValueDescriptor) -> Value {
    json!({ "value": word(value), "description": prose::of_value(value) })
}

fn field_document(field: &FieldDescriptor, deep: bool) -> Value {
    let mut document = Map::from_iter([
        ("name".to_owned(), field.json_name().into()),
        ("type".to_owned(), type_name(field).into()),
        ("description".to_owned(), prose::of_field(field).into()),
    ]);
    let values = values(field);
    if !values.is_empty() {
        document.insert("values".into(), values.iter().map(value_document).collect());
    }
    if let Some(choice) = fields::choice(field) {
        let others = choice.fields().filter(|other| other != field);
        document.insert("excludes".into(), others.map(|other| other.json_name().to_owned()).collect());
    }
    if let Some(message) = below(field).filter(|_| deep) {
        document.insert(
            "fields".into(),
            fields::of(&message).iter().map(|field| field_document(field, deep)).collect(),
        );
    }
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::kinds;

    fn topic(path: &str) -> Topic {
        Topic::find(&kinds()[0], path).unwrap()
    }

    #[test]
    fn a_message_is_told_with_its_fields() {
        let text = text(&topic("credential.basic"), &["upstreams", "up"], 60);
        assert_eq!(
            text,
            "KIND:   Upstream (upstreams, up)
FIELD:  credential.basic <BasicCredential>

DESCRIPTION:
    `Authorization: Basic …` (RFC 7617).

    BasicCredential is a user name and a password (RFC
    7617).

FIELDS:
  username <string>
    The user name, without a colon.

  password <string>
    The password. Input only.
"
        );
    }

    #[test]
    fn what_excludes_each_other_is_one_of() {
        let text = text(&topic(""), &["upstreams"], 100);
        let choice = "\n  one of:\n    How the upstream is reached, whatever its kind. Required.\n\n    http <HttpReach>\n      It is dialled at a URL.\n\n    tunnel <TunnelReach>\n";
        assert!(text.contains(choice), "{text}");
    }

    #[test]
    fn an_enum_is_told_with_its_values() {
        let told = text(&topic("mcp.eraPolicy"), &["upstreams"], 100);
        let values = "VALUES:\n  auto\n    The client's own era where the upstream speaks it, else the one it does speak.\n  modern\n";
        assert!(told.contains(values) && told.contains("Default: `auto`."), "{told}");
        let around = text(&topic("mcp"), &["upstreams"], 100);
        assert!(
            around.contains("  eraPolicy <string>\n  one of: auto, modern, legacy\n    Which "),
            "{around}"
        );
    }

    #[test]
    fn a_tree_has_names_and_types_alone() {
        let tree = tree(&topic("credential"), &["upstreams"], 100);
        let fields = "FIELDS:\n  one of:\n    bearer <BearerCredential>\n      token <string>\n    basic <BasicCredential>\n";
        assert!(tree.contains(fields) && tree.ends_with("  version <string>\n"), "{tree}");
    }

    #[test]
    fn data_go_as_deep_as_they_are_asked_to() {
        let shallow = document(&topic("credential"), false);
        assert_eq!(shallow["fields"][0]["excludes"], json!(["basic", "headers", "queryParameter"]));
        assert_eq!(shallow["fields"][0]["fields"], Value::Null);
        assert_eq!(document(&topic("credential"), true)["fields"][0]["fields"][0]["name"], "token");
        assert_eq!(document(&topic("mcp.eraPolicy"), false)["values"][2]["value"], "legacy");
    }
}
