//! A place in a resource: a kind, and the fields that lead there. It knows the kinds' messages and none of their other names.

use std::fmt;

use prost_reflect::{FieldDescriptor, MessageDescriptor};

use crate::contract::below;
use crate::fields;

/// A place in a resource.
#[derive(Debug, Clone)]
pub struct Topic {
    /// The message of the kind.
    pub kind: MessageDescriptor,
    /// The fields that lead there; none for the resource itself.
    pub path: Vec<FieldDescriptor>,
}

/// A field that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuchField {
    /// The kind, and the fields before it: `Upstream.credential`.
    pub place: String,
    /// The field.
    pub field: String,
    /// The fields that there are; none where the place has no fields.
    pub known: Vec<String>,
}

impl fmt::Display for NoSuchField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known.is_empty() {
            true => write!(f, "{} has no fields", self.place),
            false => write!(f, "{} has no field {}", self.place, self.field),
        }
    }
}

impl std::error::Error for NoSuchField {}

impl Topic {
    /// Finds a place by the fields that lead there, as in `credential.bearer` or `tools[0].match`; their names may be those of
    /// files or of the contract.
    pub fn find(kind: &MessageDescriptor, path: &str) -> Result<Self, NoSuchField> {
        let mut topic = Self { kind: kind.clone(), path: Vec::new() };
        for word in path.split('.').filter(|word| !word.is_empty()) {
            let name = word.split('[').next().unwrap_or(word);
            let known = topic.message().map(|message| fields::of(&message)).unwrap_or_default();
            let is_it = |field: &&FieldDescriptor| {
                field.json_name().eq_ignore_ascii_case(name) || field.name().eq_ignore_ascii_case(name)
            };
            match known.iter().find(is_it) {
                Some(field) => topic.path.push(field.clone()),
                None => {
                    let known = known.iter().map(|field| field.json_name().to_owned()).collect();
                    return Err(NoSuchField { place: topic.to_string(), field: name.to_owned(), known });
                }
            }
        }
        Ok(topic)
    }

    /// Returns the field that it is; `None` for the resource itself.
    pub fn field(&self) -> Option<&FieldDescriptor> {
        self.path.last()
    }

    /// Returns the message whose fields are there.
    pub fn message(&self) -> Option<MessageDescriptor> {
        match self.field() {
            Some(field) => below(field),
            None => Some(self.kind.clone()),
        }
    }

    /// Returns the fields that lead there, such as `credential.bearer`.
    pub fn path(&self) -> String {
        self.path.iter().map(FieldDescriptor::json_name).collect::<Vec<_>>().join(".")
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        self.path.iter().try_for_each(|field| write!(f, ".{}", field.json_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::kinds;

    #[test]
    fn places_are_found_by_the_names_of_fields() {
        for (path, found) in [
            ("", "Upstream"),
            ("credential.bearer", "Upstream.credential.bearer"),
            ("mcp.era_policy", "Upstream.mcp.eraPolicy"),
            ("MCP.ERAPOLICY", "Upstream.mcp.eraPolicy"),
            ("status.attempts[0].error", "Upstream.status.attempts.error"),
        ] {
            assert_eq!(Topic::find(&kinds()[0], path).unwrap().to_string(), found, "{path}");
        }
    }

    #[test]
    fn what_does_not_exist_is_told_with_what_does() {
        let error = Topic::find(&kinds()[0], "credential.beare").unwrap_err();
        assert_eq!(error.to_string(), "Upstream.credential has no field beare");
        assert_eq!(error.known, ["bearer", "basic", "headers", "queryParameter", "version"]);
        for below in ["title.x", "meta.labels.team", "requestTimeout.seconds"] {
            let error = Topic::find(&kinds()[0], below).unwrap_err().to_string();
            assert!(error.ends_with(" has no fields"), "{error}");
        }
    }
}
