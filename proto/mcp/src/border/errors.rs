//! Errors that no SDK can read, completed: their code is an integer, and their message a text.
//!
//! It must not know whose they are.

use crate::error::INTERNAL_ERROR;
use crate::json;
use crate::message::is_error_code;

use super::ids;

/// Bytes of a message that is made of something else, at most.
const MAX_MADE: usize = 1024;

/// The raw error that `raw` stands for; `None` if it is complete, or nobody can tell. `is_rpc` is whether the message around it says
/// that it is one of JSON-RPC: a bare text is an error only there.
#[cold]
pub(super) fn completed(raw: &str, is_rpc: bool) -> Option<String> {
    match raw.as_bytes().first()? {
        b'{' => completed_object(raw),
        b'"' if is_rpc => Some(of_text(raw, None)),
        b'[' | b'-' | b'0'..=b'9' | b't' if is_rpc => Some(of_text(&made(raw), Some(raw))),
        _ => None,
    }
}

/// An error of a raw text, and what it stands for.
fn of_text(message: &str, data: Option<&str>) -> String {
    let data = data.map_or(String::new(), |data| format!(r#","data":{data}"#));
    format!(r#"{{"code":{INTERNAL_ERROR},"message":{message}{data}}}"#)
}

fn completed_object(raw: &str) -> Option<String> {
    let [code, message, data] = json::members(raw, ["code", "message", "data"]).ok()?;
    let is_complete = code.is_some_and(is_error_code);
    let read = code.filter(|_| !is_complete).and_then(ids::code);
    let new_code = (!is_complete).then(|| read.unwrap_or(INTERNAL_ERROR).to_string());
    let said = message.filter(|raw| raw.starts_with('"'));
    let new_message = said.is_none().then(|| message_of(raw, message, data));
    if new_code.is_none() && new_message.is_none() {
        return None;
    }
    let loses = |value: Option<&str>| value.is_some_and(|value| value != "null");
    let is_lossy = (!is_complete && read.is_none() && loses(code)) || (said.is_none() && loses(message));
    let edits: Vec<_> = [
        ("code", new_code.as_deref()),
        ("message", new_message.as_deref()),
        ("data", (is_lossy && !loses(data) || has_others(raw) && !loses(data)).then_some(raw)),
    ]
    .into_iter()
    .filter(|(_, value)| value.is_some())
    .collect();
    json::set_members(raw, &edits).ok()
}

/// The raw text for an error whose message is none: its message or its data as text, or all of it.
fn message_of(raw: &str, message: Option<&str>, data: Option<&str>) -> String {
    let is_text = |raw: &&str| raw.starts_with('"');
    match (message.filter(|raw| *raw != "null"), data.filter(is_text)) {
        (Some(message), _) => made(message),
        (None, Some(data)) => data.to_owned(),
        (None, None) => made(raw),
    }
}

/// JSON as a raw text, cut.
fn made(json: &str) -> String {
    let end = json.floor_char_boundary(MAX_MADE);
    let cut = if end < json.len() { "…" } else { "" };
    json::quote(&format!("{}{cut}", &json[..end]))
}

/// Whether an error has members that SDKs do not look at.
fn has_others(raw: &str) -> bool {
    let mut others = false;
    let known = |key: &str| matches!(key, r#""code""# | r#""message""# | r#""data""#);
    let read = json::each_member(raw, |key, _| {
        others |= !known(key);
        Ok(())
    });
    others && read.is_ok()
}
