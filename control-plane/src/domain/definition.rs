//! Reads what Trunkline must know out of a definition that an upstream sent, and keeps every byte of it.

use std::borrow::Cow;

use mcp::json::{JsonError, members, string, without_halves};
use trunkline::registry::v1::ToolHints;

use super::{Violations, names};

/// The largest definition that is taken.
pub const MAX_DEFINITION_BYTES: usize = 256 << 10;

/// The members of a definition that are read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definition {
    /// `name`.
    pub name: String,
    /// `title`, or else `annotations.title`.
    pub title: String,
    /// `description`.
    pub description: String,
    /// `uri`.
    pub uri: String,
    /// `uriTemplate`.
    pub uri_template: String,
    /// `annotations`, as far as they are hints.
    pub hints: ToolHints,
}

/// The reason why a definition is invalid.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// It is not a JSON object, or repeats a member.
    #[error("is not a valid JSON object: {0}")]
    Json(#[from] JsonError),
    /// A member that must be there is not.
    #[error("has no `{0}`")]
    Missing(&'static str),
    /// It is too large.
    #[error("has {0} bytes; the maximum is {MAX_DEFINITION_BYTES}")]
    TooLarge(usize),
}

/// Reads a definition. Half of a surrogate pair in a text for people reads as U+FFFD, as edges list it; what an entry is known by
/// has no other spelling.
pub fn read(json: &str) -> Result<Definition, DefinitionError> {
    if json.len() > MAX_DEFINITION_BYTES {
        return Err(DefinitionError::TooLarge(json.len()));
    }
    let [name, title, description, uri, uri_template, annotations] =
        members(json, ["name", "title", "description", "uri", "uriTemplate", "annotations"])?;
    let (uri, uri_template) = (text(uri)?, text(uri_template)?);
    let is_known_by_uri = !uri.is_empty() || !uri_template.is_empty();
    let mut definition = Definition {
        name: if is_known_by_uri { shown(name)? } else { text(name)? },
        title: shown(title)?,
        description: shown(description)?,
        uri,
        uri_template,
        hints: ToolHints::default(),
    };
    if let Some(annotations) = annotations.filter(|raw| raw.starts_with('{')) {
        let [title, read_only, destructive, idempotent, open_world] = members(
            annotations,
            ["title", "readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"],
        )?;
        if definition.title.is_empty() {
            definition.title = shown(title)?;
        }
        definition.hints = ToolHints {
            read_only: flag(read_only),
            destructive: flag(destructive),
            idempotent: flag(idempotent),
            open_world: flag(open_world),
        };
    }
    Ok(definition)
}

/// Reads a definition that was validated before; one that was not reads as empty.
pub fn read_or_default(json: &str) -> Definition {
    read(json).unwrap_or_default()
}

/// Checks a definition against the own name (or URI) that the resource name stands for. `identity` picks
/// that name out of the definition; `member` is what it is called there.
pub fn validate(
    json: &str,
    name: &str,
    member: &'static str,
    identity: impl Fn(Definition) -> String,
    violations: &mut Violations,
) {
    const FIELD: &str = "definition_json";
    if json.is_empty() {
        return violations.add(FIELD, "is required");
    }
    let found = read(json)
        .map(identity)
        .and_then(|found| if found.is_empty() { Err(DefinitionError::Missing(member)) } else { Ok(found) });
    let own = names::decode_id(names::id(name)).unwrap_or_default();
    match found {
        Err(error) => violations.add(FIELD, error.to_string()),
        Ok(found) => violations.require(
            found == own,
            FIELD,
            format!("is for `{found}`, but the id is that of `{own}`"),
        ),
    }
}

/// Missing, `null` and texts pass; what else an upstream may have put there is not a text to show.
fn text(raw: Option<&str>) -> Result<String, JsonError> {
    match raw.filter(|raw| raw.starts_with('"')) {
        Some(raw) => string(raw).map(Cow::into_owned),
        None => Ok(String::new()),
    }
}

/// The same of what is for people only.
fn shown(raw: Option<&str>) -> Result<String, JsonError> {
    match raw.map(|raw| (raw, without_halves(raw))) {
        Some((_, Some(mended))) => text(Some(&mended)),
        other => text(other.map(|(raw, _)| raw)),
    }
}

fn flag(raw: Option<&str>) -> Option<bool> {
    match raw {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    }
}
