//! Ids of tasks in messages, and tasks of the legacy era in the words of the modern one.

use bytes::Bytes;
use mcp::json::{self, JsonError};
use mcp::message::{Envelope, span};
use mcp::meta;
use mcp::splice::Splice;
use memchr::memmem;

/// Sets the related task in the metadata of a message to this raw id, or removes it. Only the legacy era has it.
pub(in crate::upstream::mcp) fn set_related(message: Bytes, id: Option<&str>) -> Result<Bytes, JsonError> {
    if memmem::find(&message, meta::RELATED_TASK.as_bytes()).is_none() {
        return Ok(message);
    }
    let Ok(envelope) = Envelope::parse(&message) else { return Ok(message) };
    let Some(outer) = envelope.params.or(envelope.result) else { return Ok(message) };
    let [raw] = json::members(outer, [meta::META])?;
    let Some(raw) = raw.filter(|raw| raw.starts_with('{')) else { return Ok(message) };
    let replacement = id.map(|id| format!(r#"{{"taskId":{id}}}"#));
    let translated = json::set_members(raw, &[(meta::RELATED_TASK, replacement.as_deref())])?;
    Ok(Splice::new().replace(span(&message, raw), translated).apply(&message))
}

/// Translates the status of the task with the id `theirs`; `None` for other tasks.
pub(in crate::upstream::mcp) fn status(
    message: &Bytes,
    envelope: &Envelope<'_>,
    theirs: &str,
    ours: &str,
) -> Result<Option<Bytes>, JsonError> {
    let [raw] = json::members(envelope.params.unwrap_or("{}"), ["taskId"])?;
    let raw = raw.filter(|raw| json::string(raw).is_ok_and(|id| *id == *theirs));
    Ok(raw.map(|raw| Splice::new().replace(span(message, raw), ours.to_owned()).apply(message)))
}

/// Returns the raw id in a result about a known task, and the raw id that replaces it.
pub(in crate::upstream::mcp) fn known<'a>(
    result: &'a str,
    ours: &str,
) -> Result<Option<(&'a str, String)>, JsonError> {
    let [id] = json::members(result, ["taskId"])?;
    Ok(id.map(|id| (id, ours.to_owned())))
}

/// Replaces the raw id of a task in a message.
pub(in crate::upstream::mcp) fn replace_id<'a>(
    edits: Splice<'a>,
    message: &Bytes,
    replacement: Option<(&str, String)>,
) -> Splice<'a> {
    match replacement {
        Some((raw, translated)) => edits.replace(span(message, raw), translated),
        None => edits,
    }
}

/// Translates a task into the modern era, under the raw id `id`, with `more` members.
pub(in crate::upstream::mcp) fn to_modern(
    task: &str,
    id: &str,
    more: &[(&str, Option<&str>)],
) -> Result<String, JsonError> {
    let [ttl, pause] = json::members(task, ["ttl", "pollInterval"])?;
    let mut changes = vec![
        ("taskId", Some(id)),
        ("ttl", None),
        ("ttlMs", Some(ttl.unwrap_or("null"))),
        ("pollInterval", None),
        ("pollIntervalMs", pause),
    ];
    changes.extend(more);
    json::set_members(task, &changes)
}
