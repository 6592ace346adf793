//! A field, as those see it who write files: which others exclude it, its type, and what it may hold.

use prost_reflect::{
    EnumDescriptor, EnumValueDescriptor, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor,
};

use crate::words;

/// Google's message for a point in time.
const TIMESTAMP: &str = "google.protobuf.Timestamp";
/// Google's message for a length of time.
const DURATION: &str = "google.protobuf.Duration";

/// A field that stands alone, or fields of which at most one is set.
#[derive(Debug, Clone)]
pub enum Entry {
    /// It stands alone.
    Field(FieldDescriptor),
    /// They exclude each other.
    Choice(OneofDescriptor),
}

/// Returns the fields of a message in the order in which the contract declares them.
pub fn of(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let declared = message.descriptor_proto().field.iter();
    declared.filter_map(|field| message.get_field_by_name(field.name())).collect()
}

/// Returns the fields of a message in the order in which the contract declares them. Those that exclude each other are together.
pub fn entries(message: &MessageDescriptor) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut seen: Vec<OneofDescriptor> = Vec::new();
    for field in of(message) {
        match choice(&field) {
            Some(choice) if seen.contains(&choice) => {}
            Some(choice) => {
                seen.push(choice.clone());
                entries.push(Entry::Choice(choice));
            }
            None => entries.push(Entry::Field(field)),
        }
    }
    entries
}

/// Returns the choice that a field is part of. A field that may be absent is no choice.
pub fn choice(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field.containing_oneof().filter(|choice| !choice.is_synthetic())
}

/// What a value is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// `true` or `false`.
    Boolean,
    /// A number without a fraction. The parser of large ones takes texts, too.
    Integer {
        /// Whether it has 64 bits.
        large: bool,
    },
    /// A number.
    Number,
    /// A text.
    Text,
    /// A length of time, such as `90s`.
    Duration,
    /// A point in time (RFC 3339).
    Time,
    /// A word of an enum.
    Word(EnumDescriptor),
    /// A mapping with fields of its own.
    Message(MessageDescriptor),
}

/// Returns what one value of a field is: of a list, one of its items; of a map, one of its values.
pub fn shape(field: &FieldDescriptor) -> Shape {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => shape(&entry.map_entry_value_field()),
        Kind::Message(message) => match message.full_name() {
            TIMESTAMP => Shape::Time,
            DURATION => Shape::Duration,
            _ => Shape::Message(message),
        },
        Kind::Enum(of) => Shape::Word(of),
        Kind::Bool => Shape::Boolean,
        Kind::String | Kind::Bytes => Shape::Text,
        Kind::Double | Kind::Float => Shape::Number,
        Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64 => {
            Shape::Integer { large: true }
        }
        _ => Shape::Integer { large: false },
    }
}

/// Returns the type of a field as a word, such as `[]Member`.
pub fn type_name(field: &FieldDescriptor) -> String {
    let one = match shape(field) {
        Shape::Boolean => "boolean".to_owned(),
        Shape::Integer { .. } => "integer".to_owned(),
        Shape::Number => "number".to_owned(),
        Shape::Text | Shape::Word(_) => "string".to_owned(),
        Shape::Duration => "duration".to_owned(),
        Shape::Time => "time".to_owned(),
        Shape::Message(message) => message.name().to_owned(),
    };
    match (field.is_map(), field.is_list()) {
        (true, _) => format!("map[string]{one}"),
        (_, true) => format!("[]{one}"),
        _ => one,
    }
}

/// Returns the values that a field may be one of.
pub fn values(field: &FieldDescriptor) -> Vec<EnumValueDescriptor> {
    match shape(field) {
        Shape::Word(of) => words::named_values(&of).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::pool;

    fn message(name: &str) -> MessageDescriptor {
        pool().get_message_by_name(name).unwrap()
    }

    #[test]
    fn types_are_words() {
        let type_of =
            |kind: &str, field: &str| type_name(&message(kind).get_field_by_json_name(field).unwrap());
        for (kind, field, expected) in [
            ("trunkline.registry.v1.Server", "tools", "[]Member"),
            ("trunkline.registry.v1.Server", "nameStyle", "string"),
            ("trunkline.registry.v1.Upstream", "requestTimeout", "duration"),
            ("trunkline.common.v1.Meta", "labels", "map[string]string"),
            ("trunkline.common.v1.Meta", "createTime", "time"),
            ("trunkline.common.v1.Meta", "revision", "integer"),
            ("trunkline.registry.v1.ToolHints", "readOnly", "boolean"),
        ] {
            assert_eq!(type_of(kind, field), expected, "{kind} {field}");
        }
    }

    #[test]
    fn fields_that_exclude_each_other_are_together() {
        let shown = |name: &str| {
            let entries = entries(&message(name));
            let names = entries.iter().map(|entry| match entry {
                Entry::Field(field) => field.name().to_owned(),
                Entry::Choice(choice) => format!("one of {}", choice.name()),
            });
            names.take(6).collect::<Vec<_>>()
        };
        let upstream = ["name", "meta", "title", "description", "one of reach", "one of kind"];
        assert_eq!(shown("trunkline.registry.v1.Upstream"), upstream);
        assert_eq!(
            shown("trunkline.registry.v1.ToolHints"),
            ["read_only", "destructive", "idempotent", "open_world"]
        );
    }
}
