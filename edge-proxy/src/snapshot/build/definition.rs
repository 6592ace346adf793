//! Definitions of tools, resources and prompts: only the bytes that must change are changed.

use std::collections::BTreeMap;

use bytes::Bytes;
use mcp::entry::{self, Fit, List};
use mcp::json;
use mcp::revision::Era;
use serde_json::value::RawValue;

use super::super::{TaskSupport, ToolFacts};
use super::InvalidResource;

/// Checks that `definition` is a JSON object whose member `key` is the string `expected`.
pub(super) fn check(definition: &str, key: &'static str, expected: &str) -> Result<(), InvalidResource> {
    let bad = |problem: String| InvalidResource::Json { field: "definition_json", problem };
    object(definition).map_err(bad)?;
    let [name] = json::members(definition, [key]).map_err(|e| bad(e.to_string()))?;
    match name.map(json::string) {
        Some(Ok(found)) if found == expected => Ok(()),
        _ => Err(InvalidResource::DefinitionName { member: key, expected: expected.to_owned() }),
    }
}

/// Checks that `overrides` is empty or a JSON object without `key`.
pub(super) fn check_overrides(overrides: &str, key: &str) -> Result<(), InvalidResource> {
    if overrides.is_empty() {
        return Ok(());
    }
    let bad = |problem: String| InvalidResource::Json { field: "overrides_json", problem };
    let members = object(overrides).map_err(bad)?;
    if members.contains_key(key) {
        return Err(InvalidResource::Field { field: "overrides_json", problem: format!("sets {key}") });
    }
    Ok(())
}

/// Rewrites a definition under another name, with overrides. `key` is the member that names it.
pub(super) fn rewrite(
    definition: &str,
    key: &str,
    exposed: &str,
    overrides: &str,
) -> Result<Bytes, json::JsonError> {
    let name = json::quote(exposed);
    let overrides =
        if overrides.is_empty() { BTreeMap::new() } else { object(overrides).unwrap_or_default() };
    let annotations = match overrides.get("annotations") {
        Some(over) => Some(merge_annotations(definition, over.get())?),
        None => None,
    };
    let mut edits = vec![(key, Some(name.as_str()))];
    for (member, value) in &overrides {
        let value = if member == "annotations" { annotations.as_deref() } else { Some(value.get()) };
        edits.push((member, value));
    }
    json::set_members(definition, &edits).map(Bytes::from)
}

/// Merges the annotations of `over` into the upstream's; `over` alone where the upstream has none.
fn merge_annotations(definition: &str, over: &str) -> Result<String, json::JsonError> {
    let [theirs] = json::members(definition, ["annotations"])?;
    let (Some(theirs), Ok(over_members)) = (theirs, object(over)) else { return Ok(over.to_owned()) };
    if object(theirs).is_err() {
        return Ok(over.to_owned());
    }
    let edits: Vec<_> = over_members.iter().map(|(key, value)| (key.as_str(), Some(value.get()))).collect();
    json::set_members(theirs, &edits)
}

/// The definition as clients of `era` can take it, whose bytes stay if they can take those; `None` if it cannot be read as
/// valid. One that clients' SDKs reject would take the whole list with it.
pub(super) fn fitted(list: List, era: Era, definition: Bytes) -> Option<Bytes> {
    match entry::fit(list, era, std::str::from_utf8(&definition).ok()?) {
        Fit::Valid => Some(definition),
        Fit::Mended { definition, .. } => Some(definition.into()),
        Fit::Withheld(_) => None,
    }
}

/// The hints that rules look at.
const HINTS: [&str; 2] = ["readOnlyHint", "destructiveHint"];

/// Reads the facts that calls need. `taskSupport` means nothing from servers that make no tasks.
pub(super) fn tool_facts(definition: &str, makes_tasks: bool) -> ToolFacts {
    let [annotations, schema, execution] =
        json::members(definition, ["annotations", "inputSchema", "execution"]).unwrap_or_default();
    let annotations = annotations.and_then(|raw| object(raw).ok());
    let hint = |key: &str| flag(annotations.as_ref()?, key);
    let is_hinted = |key: &str| hint(key) == Some(true);
    let mirrored = schema.map(mcp::header::mirrored_params).unwrap_or(Ok(Vec::new()));
    ToolFacts {
        hints: HINTS.map(hint),
        own_hints: HINTS.map(hint),
        safe_to_repeat: is_hinted("readOnlyHint") || is_hinted("idempotentHint"),
        unfit_for_modern: mirrored.is_err(),
        mirrored: mirrored.unwrap_or_default(),
        tasks: execution.filter(|_| makes_tasks).map(task_support).unwrap_or_default(),
    }
}

/// `readOnlyHint` and `destructiveHint` of a definition.
pub(super) fn hints(definition: &str) -> [Option<bool>; 2] {
    let [annotations] = json::members(definition, ["annotations"]).unwrap_or_default();
    let annotations = annotations.and_then(|raw| object(raw).ok());
    HINTS.map(|key| flag(annotations.as_ref()?, key))
}

fn flag(annotations: &BTreeMap<String, Box<RawValue>>, key: &str) -> Option<bool> {
    match annotations.get(key)?.get() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn task_support(execution: &str) -> TaskSupport {
    match json::members(execution, ["taskSupport"]) {
        Ok([Some(r#""required""#)]) => TaskSupport::Required,
        Ok([Some(r#""optional""#)]) => TaskSupport::Optional,
        _ => TaskSupport::Forbidden,
    }
}

/// Parses the members of a JSON object, all of which must be well formed.
pub(super) fn object(text: &str) -> Result<BTreeMap<String, Box<RawValue>>, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
