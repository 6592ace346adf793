//! The short words of enum values: `legacy` for `ERA_POLICY_LEGACY`. Files and requests may use either, in any case; the API
//! itself answers with full names.

use std::fmt;

use prost_reflect::{EnumDescriptor, EnumValueDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::Value;

use crate::contract::is_ours;

/// Returns the short word of a value: `unreachable` of `UPSTREAM_STATE_UNREACHABLE`.
pub fn word(value: &EnumValueDescriptor) -> String {
    let prefix = prefix(value.parent_enum());
    value.name().strip_prefix(&prefix).unwrap_or(value.name()).to_lowercase().replace('_', "-")
}

/// Returns the value that a text names: by its full name or its short word, in any case.
pub fn value(of: &EnumDescriptor, text: &str) -> Option<EnumValueDescriptor> {
    let name = text.to_uppercase().replace('-', "_");
    of.get_value_by_name(&name).or_else(|| of.get_value_by_name(&format!("{}{name}", prefix(of))))
}

/// Returns the short words that somebody may choose from. What stands for nothing said is none of them.
pub fn choices(of: &EnumDescriptor) -> Vec<String> {
    named_values(of).map(|value| word(&value)).collect()
}

/// Returns the values that somebody may choose from.
pub fn named_values(of: &EnumDescriptor) -> impl Iterator<Item = EnumValueDescriptor> + '_ {
    of.values().filter(|value| !value.name().ends_with("UNSPECIFIED"))
}

/// The start of the names of all values. Every enum has a value `…_UNSPECIFIED`.
fn prefix(of: &EnumDescriptor) -> String {
    of.default_value().name().trim_end_matches("UNSPECIFIED").to_owned()
}

/// A word that is none of an enum's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord {
    /// The field that holds it, such as `mcp.eraPolicy`.
    pub path: String,
    /// The word.
    pub word: String,
    /// The words that it may hold.
    pub choices: Vec<String>,
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: must be {}, not `{}`", self.path, one_of(&self.choices), self.word)
    }
}

impl std::error::Error for UnknownWord {}

/// Renders `a`, `b` or `c`.
pub fn one_of(choices: &[String]) -> String {
    let quoted: Vec<_> = choices.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// Replaces the words of enum values in the JSON of a message by their full names, which proto-JSON wants. Fields that do not
/// exist, and values that are no text, are left to its parser.
pub fn to_names(message: &MessageDescriptor, json: &mut Value) -> Result<(), UnknownWord> {
    each_word(message, json, "", &mut |path, of, text| match value(of, text) {
        Some(value) => Ok(value.name().to_owned()),
        None => Err(UnknownWord { path: path.to_owned(), word: text.to_owned(), choices: choices(of) }),
    })
}

/// Replaces the full names of enum values in the JSON of a message by their short words, for people. Names that are not known
/// stay as they are.
pub fn to_words(message: &MessageDescriptor, json: &mut Value) {
    let _: Result<(), UnknownWord> = each_word(message, json, "", &mut |_, of, text| {
        Ok(of.get_value_by_name(text).map_or_else(|| text.to_owned(), |value| word(&value)))
    });
}

/// Replaces what the enum fields of a message hold.
type Replace<'a> = dyn FnMut(&str, &EnumDescriptor, &str) -> Result<String, UnknownWord> + 'a;

fn each_word(
    message: &MessageDescriptor,
    json: &mut Value,
    path: &str,
    replace: &mut Replace<'_>,
) -> Result<(), UnknownWord> {
    let Value::Object(members) = json else { return Ok(()) };
    for (key, value) in members {
        let Some(field) = message.get_field_by_json_name(key).or_else(|| message.get_field_by_name(key))
        else {
            continue;
        };
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        each_word_of(&field, value, &path, replace)?;
    }
    Ok(())
}

fn each_word_of(
    field: &FieldDescriptor,
    value: &mut Value,
    path: &str,
    replace: &mut Replace<'_>,
) -> Result<(), UnknownWord> {
    match (value, field.kind()) {
        (Value::Object(members), Kind::Message(entry)) if field.is_map() => {
            let field = entry.map_entry_value_field();
            members.iter_mut().try_for_each(|(key, value)| {
                each_word_of(&field, value, &format!("{path}[{key:?}]"), replace)
            })
        }
        (Value::Array(items), _) if field.is_list() => {
            items.iter_mut().enumerate().try_for_each(|(index, item)| {
                one_word(&field.kind(), item, &format!("{path}[{index}]"), replace)
            })
        }
        (value, kind) => one_word(&kind, value, path, replace),
    }
}

fn one_word(
    kind: &Kind,
    value: &mut Value,
    path: &str,
    replace: &mut Replace<'_>,
) -> Result<(), UnknownWord> {
    match (kind, value) {
        (Kind::Enum(of), Value::String(text)) if of.full_name().starts_with("trunkline.") => {
            *text = replace(path, of, text)?;
            Ok(())
        }
        (Kind::Message(inner), value) if is_ours(inner) => each_word(inner, value, path, replace),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contract::pool;

    fn message(name: &str) -> MessageDescriptor {
        pool().get_message_by_name(name).unwrap()
    }

    #[test]
    fn words_and_names_in_any_case_are_understood() {
        let upstream = message("trunkline.registry.v1.Upstream");
        for text in
            ["legacy", "LEGACY", "Legacy", "ERA_POLICY_LEGACY", "era_policy_legacy", "era-policy-legacy"]
        {
            for field in ["eraPolicy", "era_policy"] {
                let mut json = json!({ "title": "legacy", "mcp": { field: text } });
                to_names(&upstream, &mut json).unwrap();
                assert_eq!(json, json!({ "title": "legacy", "mcp": { field: "ERA_POLICY_LEGACY" } }));
                to_words(&upstream, &mut json);
                assert_eq!(json["mcp"][field], "legacy");
            }
        }
    }

    #[test]
    fn words_are_found_in_lists_of_messages() {
        let request = message("trunkline.admin.v1.ApplyResourcesRequest");
        let mut json =
            json!({ "manifests": [{ "server": { "nameStyle": "unprefixed" } }], "applySet": "prefixed" });
        to_names(&request, &mut json).unwrap();
        assert_eq!(json["manifests"][0]["server"]["nameStyle"], "NAME_STYLE_UNPREFIXED");
        assert_eq!(json["applySet"], "prefixed");
        json["manifests"][0]["server"]["nameStyle"] = "bare".into();
        let error = to_names(&request, &mut json).unwrap_err().to_string();
        assert_eq!(error, "manifests[0].server.nameStyle: must be `prefixed` or `unprefixed`, not `bare`");
    }

    #[test]
    fn what_is_not_a_text_is_left_to_the_parser() {
        let upstream = message("trunkline.registry.v1.Upstream");
        let odd = json!({ "mcp": { "eraPolicy": 3 }, "nonsense": "legacy", "status": [], "meta": { "labels": { "a": "legacy" } } });
        let mut json = odd.clone();
        to_names(&upstream, &mut json).unwrap();
        assert_eq!(json, odd);
    }

    #[test]
    fn every_word_leads_back_to_its_value() {
        for of in pool().all_enums().filter(|of| of.full_name().starts_with("trunkline.")) {
            assert!(of.default_value().name().ends_with("UNSPECIFIED"), "{}", of.full_name());
            for known in of.values() {
                assert_eq!(value(&of, &word(&known)), Some(known.clone()), "{}", known.full_name());
            }
        }
    }
}
