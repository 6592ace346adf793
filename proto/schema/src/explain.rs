//! A place in a resource, told as text for a terminal and as data for programs.

use prost_reflect::{EnumValueDescriptor, FieldDescriptor, MessageDescriptor, OneofDescriptor};
use serde_json::{Map, Value, json};

use crate::contract::below;
use crate::fields::{self, Entry, entries, type_name, values};
use crate::layout::wrap;
use crate::prose;
use crate::rules;
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
        add_rules(field, &mut document);
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
    let field = topic.field().map(|field| rules::untold(&prose::of_field(field), &rules::of(field)));
    let message = topic.message().map(|message| prose::of_message(&message));
    let texts = field.into_iter().chain(message).filter(|text| !text.is_empty());
    texts.collect::<Vec<_>>().join("\n\n")
}

fn head(topic: &Topic, names: &[&str]) -> String {
    let mut text = format!("KIND:   {} ({})\n", topic.kind.name(), names.join(", "));
    let Some(field) = topic.field() else { return text };
    text.push_str(&format!("FIELD:  {} <{}>\n", topic.path(), type_name(field)));
    let rules = rules::of(field);
    let flags = rules::flags(&rules).into_iter().map(str::to_owned);
    let mut told: Vec<String> = flags.chain(rules::notes(field)).collect();
    let patterns = [("keys match", &rules.key_pattern), ("matches", &rules.pattern)];
    told.extend(patterns.iter().filter(|(_, p)| !p.is_empty()).map(|(verb, p)| format!("{verb} {p}")));
    for (index, note) in told.iter().enumerate() {
        text.push_str(&format!("{}{note}\n", if index == 0 { "RULES:  " } else { "        " }));
    }
    text
}

fn value_text(value: &EnumValueDescriptor, width: usize) -> String {
    format!("{}{}\n{}", " ".repeat(STEP), word(value), wrap(&prose::of_value(value), STEP * 2, width))
}

fn fields_text(message: &MessageDescriptor, width: usize) -> String {
    let texts = entries(message).into_iter().map(|entry| match entry {
        Entry::Field(field) => field_text(&field, STEP, width),
        Entry::Choice(choice) => choice_text(&choice, width),
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn choice_text(choice: &OneofDescriptor, width: usize) -> String {
    let fields: Vec<_> = choice.fields().map(|field| field_text(&field, STEP * 2, width)).collect();
    let told = rules::untold_of_choice(&prose::of_choice(choice), &rules::of_choice(choice));
    let told = wrap(&told, STEP * 2, width);
    format!("{}{}\n{told}\n{}", " ".repeat(STEP), choice_line(choice), fields.join("\n"))
}

fn choice_line(choice: &OneofDescriptor) -> String {
    let rules = rules::of_choice(choice);
    let required = if rules.required { " -required-" } else { "" };
    let default = match rules.default_field.as_str() {
        "" => String::new(),
        field => format!(" (default: {field})"),
    };
    format!("one of:{required}{default}")
}

fn field_text(field: &FieldDescriptor, indent: usize, width: usize) -> String {
    let rules = rules::of(field);
    let mut text = format!("{}{}\n", " ".repeat(indent), field_line(field));
    let notes = rules::notes(field);
    if !notes.is_empty() {
        text.push_str(&wrap(&format!("({})", notes.join("; ")), indent + STEP, width));
    }
    text.push_str(&wrap(&rules::untold(&prose::of_field(field), &rules), indent + STEP, width));
    text
}

/// The name, the type and what must or cannot be done, as in `token <string> -secret-`.
fn field_line(field: &FieldDescriptor) -> String {
    let flags = rules::flags(&rules::of(field));
    let flags = if flags.is_empty() { String::new() } else { format!(" -{}-", flags.join(", ")) };
    format!("{} <{}>{flags}", field.json_name(), type_name(field))
}

fn add_tree(message: &MessageDescriptor, indent: usize, text: &mut String) {
    for entry in entries(message) {
        match entry {
            Entry::Field(field) => add_branch(&field, indent, text),
            Entry::Choice(choice) => {
                text.push_str(&format!("{}{}\n", " ".repeat(indent), choice_line(&choice)));
                choice.fields().for_each(|field| add_branch(&field, indent + STEP, text));
            }
        }
    }
}

fn add_branch(field: &FieldDescriptor, indent: usize, text: &mut String) {
    text.push_str(&format!("{}{}\n", " ".repeat(indent), field_line(field)));
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
        ("description".to_owned(), rules::untold(&prose::of_field(field), &rules::of(field)).into()),
    ]);
    add_rules(field, &mut document);
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

/// Adds the rules that are set, by their names in the contract.
fn add_rules(field: &FieldDescriptor, document: &mut Map<String, Value>) {
    let rules = rules::of(field);
    let flags = [("required", rules.required), ("outputOnly", rules.output_only), ("secret", rules.secret)];
    let numbers = [
        ("maxCharacters", rules.max_characters),
        ("maxBytes", rules.max_bytes),
        ("minItems", rules.min_items),
        ("maxItems", rules.max_items),
    ];
    let texts = [
        ("default", rules.default_value),
        ("minDuration", rules.min_duration),
        ("maxDuration", rules.max_duration),
        ("pattern", rules.pattern),
        ("keyPattern", rules.key_pattern),
        ("refersTo", rules.refers_to),
    ];
    let flags = flags.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (name, Value::from(true)));
    let numbers = numbers.into_iter().filter(|(_, number)| *number > 0);
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    document.extend(flags.map(|(name, value)| (name.to_owned(), value)));
    document.extend(numbers.map(|(name, number)| (name.to_owned(), number.into())));
    document.extend(texts.map(|(name, text)| (name.to_owned(), text.into())));
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
    (at most 16 KiB)
    The user name, without a colon.

  password <string> -secret-
    (at most 16 KiB)
    The password.

  passwordFrom <SecretReference>
    Where the password is, in the place of `password`.
"
        );
    }

    #[test]
    fn what_excludes_each_other_is_one_of() {
        let text = text(&topic(""), &["upstreams"], 100);
        let choice = "\n  one of: -required-\n    How the upstream is reached, whatever its kind.\n\n    http <HttpReach>\n      It is dialled at a URL.\n\n    tunnel <TunnelReach>\n";
        assert!(text.contains(choice), "{text}");
    }

    #[test]
    fn an_enum_is_told_with_its_values() {
        let told = text(&topic("mcp.eraPolicy"), &["upstreams"], 100);
        let values = "VALUES:\n  auto\n    The client's own era where the upstream speaks it, else the one it does speak.\n  modern\n";
        assert!(
            told.contains(values)
                && told.contains("RULES:  one of: auto, modern, legacy\n        default: auto\n"),
            "{told}"
        );
        let around = text(&topic("mcp"), &["upstreams"], 100);
        assert!(
            around.contains(
                "  eraPolicy <string>\n    (one of: auto, modern, legacy; default: auto)\n    Which "
            ),
            "{around}"
        );
    }

    #[test]
    fn a_tree_has_names_and_types_alone() {
        let tree = tree(&topic("credential"), &["upstreams"], 100);
        let fields = "FIELDS:\n  one of: -required-\n    bearer <BearerCredential>\n      token <string> -secret-\n      tokenFrom <SecretReference>\n        one of: -required-\n          env <EnvironmentSource>\n            name <string>\n";
        assert!(tree.contains(fields) && tree.ends_with("  version <string> -output only-\n"), "{tree}");
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
