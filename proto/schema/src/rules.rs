//! What the contract declares of a field beside its type: limits, defaults, who writes it; and how people are told.

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, OneofDescriptor};
use trunkline::common::v1::{ChoiceRules, FieldRules};

use crate::contract::below;
use crate::fields;

/// The option of fields.
const RULES: &str = "trunkline.common.v1.rules";
/// The option of fields that exclude each other.
const CHOICE: &str = "trunkline.common.v1.choice";

/// Returns the rules of a field.
pub fn of(field: &FieldDescriptor) -> FieldRules {
    let rules = option(&field.options(), RULES);
    rules.and_then(|rules| rules.transcode_to().ok()).unwrap_or_default()
}

/// Returns the rules of fields that exclude each other.
pub fn of_choice(choice: &OneofDescriptor) -> ChoiceRules {
    let rules = option(&choice.options(), CHOICE);
    rules.and_then(|rules| rules.transcode_to().ok()).unwrap_or_default()
}

fn option(options: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
    let extension = crate::contract::pool().get_extension_by_name(name)?;
    let is_set = options.has_extension(&extension);
    options.get_extension(&extension).as_message().filter(|_| is_set).cloned()
}

/// Returns whether a field, or one that it is in, is written by nobody but Trunkline. The path is as in files: `meta.uid`.
pub fn is_output_only(message: &MessageDescriptor, path: &str) -> bool {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let Some(field) = message.get_field_by_json_name(first) else { return false };
    of(&field).output_only
        || rest.zip(below(&field)).is_some_and(|(rest, inner)| is_output_only(&inner, rest))
}

/// Returns the fields whose rules are so, with their paths as in files, and not those below them. `*` is every member of a mapping.
pub fn find(message: &MessageDescriptor, is_so: fn(&FieldRules) -> bool) -> Vec<(String, FieldDescriptor)> {
    let mut found = Vec::new();
    for field in message.fields() {
        let name = field.json_name().to_owned();
        if is_so(&of(&field)) {
            found.push((name, field));
        } else if let Some(inner) = below(&field) {
            let name = if field.is_map() { format!("{name}.*") } else { name };
            let inner = find(&inner, is_so).into_iter();
            found.extend(inner.map(|(path, field)| (format!("{name}.{path}"), field)));
        }
    }
    found
}

/// Returns the words for what must, or cannot, be done with a field.
pub fn flags(rules: &FieldRules) -> Vec<&'static str> {
    let flags = [(rules.required, "required"), (rules.output_only, "output only"), (rules.secret, "secret")];
    flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word).collect()
}

/// Returns what else a field may hold, a few words each.
pub fn notes(field: &FieldDescriptor) -> Vec<String> {
    let rules = of(field);
    let mut notes = Vec::new();
    let words: Vec<_> = fields::values(field).iter().map(crate::words::word).collect();
    if !words.is_empty() && !rules.output_only {
        notes.push(format!("one of: {}", words.join(", ")));
    }
    if !rules.default_value.is_empty() {
        notes.push(format!("default: {}", rules.default_value));
    }
    if !rules.min_duration.is_empty() {
        notes.push(format!("from {} to {}", rules.min_duration, rules.max_duration));
    }
    notes.extend(items(field, &rules));
    notes.extend(length(field, &rules));
    if !rules.refers_to.is_empty() {
        notes.push(format!("names {}", a(&rules.refers_to)));
    }
    notes
}

fn items(field: &FieldDescriptor, rules: &FieldRules) -> Option<String> {
    let what = if field.is_map() { "pairs" } else { "items" };
    match (rules.min_items, rules.max_items) {
        (_, 0) => None,
        (0, most) => Some(format!("at most {most} {what}")),
        (least, most) => Some(format!("{least} to {most} {what}")),
    }
}

fn length(field: &FieldDescriptor, rules: &FieldRules) -> Option<String> {
    let each = if field.is_map() || field.is_list() { " each" } else { "" };
    match (rules.max_characters, rules.max_bytes) {
        (0, 0) => None,
        (0, bytes) if bytes % 1024 == 0 => Some(format!("at most {} KiB{each}", bytes / 1024)),
        (0, bytes) => Some(format!("at most {bytes} bytes{each}")),
        (characters, _) => Some(format!("at most {characters} characters{each}")),
    }
}

/// The name of a kind after its article.
fn a(kind: &str) -> String {
    let article = if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// Leaves those sentences out that the rules of a field say in other words.
pub fn untold(text: &str, rules: &FieldRules) -> String {
    let has_default = !rules.default_value.is_empty() || !rules.min_duration.is_empty();
    let has_limit = rules.max_characters + rules.max_bytes + rules.max_items > 0;
    without(
        text,
        &[
            (rules.required, "Required"),
            (rules.output_only, "Output only"),
            (rules.secret, "Input only"),
            (has_default, "Default"),
            (has_limit, "At most"),
        ],
    )
}

/// The same of fields that exclude each other.
pub fn untold_of_choice(text: &str, rules: &ChoiceRules) -> String {
    without(text, &[(rules.required, "Required"), (!rules.default_field.is_empty(), "Default")])
}

fn without(text: &str, told: &[(bool, &str)]) -> String {
    let is_told =
        |sentence: &str| told.iter().any(|(is_told, start)| *is_told && sentence.starts_with(start));
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let sentences = paragraph.split_inclusive(". ").filter(|sentence| !is_told(sentence));
        sentences.collect::<String>().trim_end().to_owned()
    });
    paragraphs.filter(|paragraph| !paragraph.is_empty()).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{kinds, pool};

    fn field(message: &str, name: &str) -> FieldDescriptor {
        let message = pool().get_message_by_name(&format!("trunkline.{message}")).unwrap();
        message.get_field_by_json_name(name).unwrap()
    }

    #[test]
    fn rules_are_told_in_a_few_words() {
        for (message, name, flag, expected) in [
            ("registry.v1.Upstream", "title", &[][..], &["at most 128 characters"][..]),
            ("registry.v1.Upstream", "requestTimeout", &[], &["default: 60s", "from 1s to 3600s"]),
            ("registry.v1.Upstream", "status", &["output only"], &[]),
            ("registry.v1.McpUpstream", "eraPolicy", &[], &["one of: auto, modern, legacy", "default: auto"]),
            ("registry.v1.BearerCredential", "token", &["secret"], &["at most 16 KiB"]),
            (
                "registry.v1.HeadersCredential",
                "headers",
                &["secret"],
                &["at most 16 pairs", "at most 8 KiB each"],
            ),
            ("registry.v1.Member", "match", &["required"], &["at most 2 KiB", "names an Upstream"]),
            ("common.v1.Meta", "labels", &[], &["at most 64 pairs", "at most 128 characters each"]),
        ] {
            let field = field(message, name);
            assert_eq!(
                (flags(&of(&field)), notes(&field)),
                (flag.to_vec(), expected.iter().map(ToString::to_string).collect()),
                "{message} {name}"
            );
        }
    }

    #[test]
    fn what_the_rules_tell_is_not_told_again() {
        for (message, name, text) in [
            ("registry.v1.Upstream", "title", "Human-readable name."),
            (
                "registry.v1.Upstream",
                "requestTimeout",
                "How long a call may take until its first byte arrives, and between two bytes after that.",
            ),
            ("registry.v1.BearerCredential", "token", "The token."),
            ("registry.v1.Upstream", "status", "What has been observed of it."),
        ] {
            let field = field(message, name);
            assert_eq!(untold(&crate::prose::of_field(&field), &of(&field)), text);
        }
    }

    #[test]
    fn what_is_output_only_is_known_by_its_path() {
        let upstream = &kinds()[0];
        for (path, expected) in [
            ("meta.uid", true),
            ("meta.labels", false),
            ("meta.labels.uid", false),
            ("status", true),
            ("status.state", true),
            ("credential.version", true),
            ("credential.bearer.token", false),
            ("nonsense.x", false),
        ] {
            assert_eq!(is_output_only(upstream, path), expected, "{path}");
        }
    }

    fn all_fields(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
        let inner = |field: &FieldDescriptor| below(field).map_or_else(Vec::new, |inner| all_fields(&inner));
        message.fields().flat_map(|field| [inner(&field), vec![field]].concat()).collect()
    }

    #[test]
    fn secrets_are_found_below_and_are_what_the_comments_call_input_only() {
        let found = kinds().into_iter().flat_map(|kind| find(&kind, |rules| rules.secret));
        assert_eq!(
            found.map(|(path, _)| path).collect::<Vec<_>>(),
            [
                "credential.bearer.token",
                "credential.basic.password",
                "credential.headers.headers",
                "credential.queryParameter.value",
            ]
        );
        for field in kinds().iter().flat_map(all_fields) {
            let is_said = crate::prose::of_field(&field).to_lowercase().contains("input only");
            assert_eq!(is_said, of(&field).secret, "{}", field.full_name());
        }
    }
}
