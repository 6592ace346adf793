//! The comments of the contract, for people who write files: fields by their names in files, enum values by their short words.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost_reflect::{
    EnumValueDescriptor, FieldDescriptor, FileDescriptor, MessageDescriptor, OneofDescriptor,
};

use crate::contract::pool;
use crate::words;

/// The short words of enum values, by their full names.
static WORDS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let values = pool().all_enums().flat_map(|of| of.values().collect::<Vec<_>>());
    values.map(|value| (value.name().to_owned(), words::word(&value))).collect()
});

/// The names of fields that are spelt otherwise in files, as they are in the contract.
static FIELDS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let fields = pool().all_messages().flat_map(|message| message.fields().collect::<Vec<_>>());
    let names = fields.map(|field| (field.name().to_owned(), field.json_name().to_owned()));
    names.filter(|(name, json)| name != json).collect()
});

/// Returns what is said of a message.
pub fn of_message(message: &MessageDescriptor) -> String {
    comment(&message.parent_file(), message.path())
}

/// Returns what is said of a field.
pub fn of_field(field: &FieldDescriptor) -> String {
    comment(&field.parent_file(), field.path())
}

/// Returns what is said of fields of which one is set.
pub fn of_choice(choice: &OneofDescriptor) -> String {
    comment(&choice.parent_file(), choice.path())
}

/// Returns what is said of an enum value.
pub fn of_value(value: &EnumValueDescriptor) -> String {
    comment(&value.parent_file(), value.path())
}

/// Returns the first sentence of a text.
pub fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or_else(|| text.trim_end_matches('.'), |(first, _)| first)
}

/// Returns the comment above a thing; paragraphs are separated by an empty line.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let locations = file.file_descriptor_proto().source_code_info.iter().flat_map(|info| &info.location);
    let found =
        locations.filter(|location| location.path == path).find_map(|l| l.leading_comments.as_deref());
    let paragraphs = found.unwrap_or_default().split("\n\n");
    let joined = paragraphs.map(|text| text.lines().map(str::trim).collect::<Vec<_>>().join(" "));
    joined.map(|text| for_files(text.trim())).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n")
}

/// Replaces the names of the contract by those that files have.
fn for_files(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for (index, part) in text.split('`').enumerate() {
        let is_code = index % 2 == 1;
        if index > 0 {
            written.push('`');
        }
        for piece in pieces(part) {
            match (WORDS.get(piece), FIELDS.get(piece)) {
                (Some(word), _) if is_code => written.push_str(word),
                (Some(word), _) => written.push_str(&format!("`{word}`")),
                (_, Some(name)) if is_code => written.push_str(name),
                _ => written.push_str(piece),
            }
        }
    }
    written
}

/// Cuts a text into identifiers and what is between them.
fn pieces(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_part(c) != is_part(first)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        found.push(piece);
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::kinds;

    fn field(kind: &str, name: &str) -> String {
        let message = pool().get_message_by_name(kind).unwrap();
        of_field(&message.get_field_by_json_name(name).unwrap())
    }

    #[test]
    fn comments_read_as_files_are_written() {
        assert_eq!(
            field("trunkline.registry.v1.McpUpstream", "eraPolicy"),
            "Which generation of the protocol is spoken to it. Default: `auto`."
        );
        assert_eq!(
            field("trunkline.registry.v1.ToolHints", "destructive"),
            "It may destroy something. Meaningless where `readOnly` is true."
        );
        assert_eq!(
            field("trunkline.registry.v1.ProbeReport", "quirkDetails").split(':').next().unwrap(),
            "For each of `quirks`, in the same order"
        );
        assert_eq!(
            for_files("`{upstream}_{name}` of `github/create_issue`"),
            "`{upstream}_{name}` of `github/create_issue`"
        );
    }

    #[test]
    fn everything_in_files_is_told() {
        let mut seen = Vec::new();
        for kind in kinds() {
            check(&kind, &mut seen);
        }
    }

    /// Whether a text has a name that files have another word for.
    fn mentions_the_contract(text: &str) -> bool {
        pieces(text).iter().any(|piece| WORDS.contains_key(*piece) && piece.contains('_'))
    }

    fn check(message: &MessageDescriptor, seen: &mut Vec<String>) {
        if seen.iter().any(|name| name == message.full_name()) {
            return;
        }
        seen.push(message.full_name().to_owned());
        let text = of_message(message);
        assert!(!text.is_empty() && !mentions_the_contract(&text), "{}: {text}", message.full_name());
        for field in message.fields() {
            let text = of_field(&field);
            assert!(!text.is_empty() && !mentions_the_contract(&text), "{}: {text}", field.full_name());
            if let Some(inner) = crate::contract::below(&field) {
                check(&inner, seen);
            }
        }
    }

    #[test]
    fn sentences_end_with_a_full_stop() {
        assert_eq!(first_sentence("A token (RFC 6750). It is good."), "A token (RFC 6750)");
        assert_eq!(first_sentence("A token."), "A token");
    }
}
