//! Members that a peer wrote as `null` because it has no value for them: serializers of structs do, and strict SDKs drop the
//! whole message for one.
//!
//! Only members of the protocol's own objects count, where no revision has `null` for a value: what a tool was given or
//! returned, what a vendor adds and what a log message carries keep theirs.

use std::borrow::Cow;

use crate::json::{self, JsonError};
use crate::message::{Envelope, span};
use crate::meta;
use crate::method::Method;
use crate::splice::Splice;

/// Members that mean the same where they are `null` as where they are not there.
pub(super) const OPTIONAL: [&str; 43] = [
    meta::META,
    meta::LOG_LEVEL,
    meta::PROGRESS_TOKEN,
    "annotations",
    "arguments",
    "audience",
    CONTENT,
    "context",
    "costPriority",
    "cursor",
    "description",
    "hasMore",
    "hints",
    "icons",
    "includeContext",
    "inputRequests",
    "inputResponses",
    "intelligencePriority",
    "isError",
    "lastModified",
    "logger",
    "message",
    "metadata",
    "mimeType",
    "mode",
    "modelPreferences",
    "name",
    "nextCursor",
    "pollInterval",
    "priority",
    "reason",
    "requestState",
    "size",
    "speedPriority",
    "statusMessage",
    "stopReason",
    "stopSequences",
    STRUCTURED,
    "systemPrompt",
    "task",
    "temperature",
    "title",
    "total",
];

/// Members that hold objects of the protocol, or lists of them.
const HOLDERS: [&str; 15] = [
    meta::META,
    "annotations",
    "completion",
    CONTENT,
    "contents",
    "context",
    "hints",
    "inputRequests",
    "inputResponses",
    "messages",
    "modelPreferences",
    "params",
    "resource",
    "roots",
    "task",
];

const CONTENT: &str = "content";
const STRUCTURED: &str = "structuredContent";
/// Depth to which objects are looked into. Blocks of content in the input that a call requires are the deepest.
const MAX_DEPTH: usize = 8;

/// Whether there is something to take out of a message in which a member of an [`OPTIONAL`] name is `null`.
#[cold]
pub(super) fn any(envelope: &Envelope<'_>) -> bool {
    let is_request = envelope.method.is_some();
    let raw = if is_request { envelope.params } else { envelope.result };
    raw.is_some_and(|raw| without(envelope.method.as_deref(), raw).is_some())
}

/// The `params` of this method, or a `result`, without the members that are there and mean nothing; `None` where there are none.
#[cold]
pub(crate) fn without(method: Option<&str>, raw: &str) -> Option<String> {
    let is_known = method.is_none_or(|method| Method::parse(method).is_some());
    // What cannot be told apart is left as it is.
    if is_known { value("", raw, MAX_DEPTH).ok().flatten() } else { None }
}

/// The same for what the member `name` holds.
fn value(name: &str, raw: &str, depth: usize) -> Result<Option<String>, JsonError> {
    match raw.as_bytes().first() {
        Some(b'{') if depth > 0 => object(name, raw, depth - 1),
        Some(b'[') if depth > 0 => list(name, raw, depth - 1),
        _ => Ok(None),
    }
}

fn list(name: &str, raw: &str, depth: usize) -> Result<Option<String>, JsonError> {
    let mut edits = Splice::new();
    json::each_element::<JsonError>(raw, |element| {
        if let Some(changed) = value(name, element, depth)? {
            edits = std::mem::take(&mut edits).replace(span(raw.as_bytes(), element), changed);
        }
        Ok(())
    })?;
    let changed = (!edits.is_empty()).then(|| edits.apply(raw.as_bytes()));
    Ok(changed.and_then(|changed| String::from_utf8(changed.into()).ok()))
}

fn object(name: &str, raw: &str, depth: usize) -> Result<Option<String>, JsonError> {
    let [action, kind] = json::members(raw, ["action", "resultType"])?;
    let is_map = matches!(name, "inputRequests" | "inputResponses");
    let mut edits: Vec<(Cow<'_, str>, Option<String>)> = Vec::new();
    json::each_member(raw, |key, held| {
        let key = json::key_text(key);
        if held == "null" && is_optional(name, &key) {
            // A result of the modern era may be any value, and that of a tool is lost without its content.
            let stays = match &*key {
                STRUCTURED => kind.is_some(),
                CONTENT => name.is_empty() && action.is_none(),
                _ => false,
            };
            if !stays {
                edits.push((key, None));
            }
        } else if is_map || is_looked_into(name, &key) && !(key == CONTENT && action.is_some()) {
            // What a person has filled in is not the protocol's.
            let inside = if is_map { "" } else { &*key };
            edits.extend(value(inside, held, depth)?.map(|changed| (key, Some(changed))));
        }
        Ok(())
    })?;
    if edits.is_empty() {
        return Ok(None);
    }
    let edits: Vec<_> = edits.iter().map(|(key, value)| (&**key, value.as_deref())).collect();
    json::set_members(raw, &edits).map(Some)
}

/// Whether `key` may be left out of what the member `inside` holds. In `_meta`, anybody may have keys.
fn is_optional(inside: &str, key: &str) -> bool {
    match inside {
        meta::META => matches!(key, meta::PROGRESS_TOKEN | meta::LOG_LEVEL),
        _ => OPTIONAL.contains(&key),
    }
}

fn is_looked_into(inside: &str, key: &str) -> bool {
    inside != meta::META && HOLDERS.contains(&key)
}
