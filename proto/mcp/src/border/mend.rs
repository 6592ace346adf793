//! What a peer meant with a message that cannot be read strictly, where only one thing can be meant.
//!
//! Everything is mended in the bytes: what is not named as an edit stays as it was. It is never called for a message that
//! parses, and it must not know what a message is about.

use std::fmt;
use std::ops::Range;

use bytes::{Buf as _, Bytes};

use super::errors;
use super::mark::MARK;
use crate::json::{self, JsonError};
use crate::message::{Envelope, EnvelopeError, Kind, absent, is_empty_list, split_batch};
use crate::quirk::{Quirk, Quirks};
use crate::secrets::Secrets;
use crate::splice::Splice;

/// Who sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer<'a> {
    /// A server.
    Server {
        /// The raw id of the only request that is open on this exchange: an answer without an id gets it. `None` on
        /// channels, and wherever several are open.
        open: Option<&'a str>,
    },
    /// A client. It is not forgiven a missing `jsonrpc`.
    Client,
}

/// A message that parses now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// The message.
    pub message: Bytes,
    /// What was mended.
    pub quirks: Quirks,
}

/// A message that cannot be read, nor mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Why.
    pub error: EnvelopeError,
    /// Where, in bytes from its start.
    pub at: usize,
    /// Its size in bytes.
    pub length: usize,
}

/// Mends the message that [`Envelope::parse`] refused with `error`.
///
/// # Errors
/// When it may be meant in several ways, or in none.
#[cold]
#[inline(never)]
pub fn mend(source: &Bytes, error: EnvelopeError, from: Peer<'_>) -> Result<Mended, Unreadable> {
    attempt(source, from).ok_or_else(|| Unreadable::new(source, error))
}

/// Takes one step after the other until the message parses.
fn attempt(source: &Bytes, from: Peer<'_>) -> Option<Mended> {
    let mut draft = Mended { message: source.clone(), quirks: Quirks::default() };
    let steps: [fn(&mut Mended, Peer<'_>) -> Option<()>; 4] =
        [unframe, make_finite, unwrap_list, mend_members];
    for step in steps {
        let before = draft.message.clone();
        step(&mut draft, from)?;
        // What is as it was does not parse now, either.
        let is_changed = before.as_ptr_range() != draft.message.as_ptr_range();
        if is_changed && Envelope::parse(&draft.message).is_ok() {
            return Some(draft);
        }
    }
    None
}

/// Takes off what stands around the message: a byte order mark, and the NUL with which strings end in C.
fn unframe(draft: &mut Mended, _from: Peer<'_>) -> Option<()> {
    if draft.message.starts_with(MARK) {
        draft.message.advance(MARK.len());
        draft.quirks.note(Quirk::ByteOrderMark);
    }
    let surplus = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
    let end = draft.message.iter().rposition(|byte| !surplus(byte)).map_or(0, |last| last + 1);
    draft.message.truncate(end);
    Some(())
}

/// Writes `null` for the numbers that JSON does not have. Python writes them; JavaScript writes `null` itself. A client
/// is told instead: it can write what it means.
fn make_finite(draft: &mut Mended, from: Peer<'_>) -> Option<()> {
    if from == Peer::Client {
        return Some(());
    }
    let mut splice = Splice::new();
    for word in non_finite(&draft.message) {
        splice = splice.replace(word, "null");
    }
    if !splice.is_empty() {
        draft.message = splice.apply(&draft.message);
        draft.quirks.note(Quirk::NonFinite);
    }
    Some(())
}

/// Where `NaN`, `Infinity` and `-Infinity` stand outside of strings.
fn non_finite(source: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = source.get(at..).and_then(|rest| memchr::memchr3(b'"', b'N', b'I', rest)) {
        at += next;
        let word = [&b"NaN"[..], b"Infinity"].into_iter().find(|word| source[at..].starts_with(word));
        match word {
            Some(word) => {
                let start = at - usize::from(word != b"NaN" && source[..at].ends_with(b"-"));
                at += word.len();
                found.push(start..at);
            }
            None if source[at] == b'"' => at = string_end(source, at),
            None => at += 1,
        }
    }
    found
}

/// Where the string that begins at `at` ends, or the source does.
fn string_end(source: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(next) = source.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += next;
        if source[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    source.len()
}

/// Takes the only message out of an array; of a batch, the only response, where the sender is asked one thing and asks nothing.
fn unwrap_list(draft: &mut Mended, from: Peer<'_>) -> Option<()> {
    let Ok(text) = std::str::from_utf8(&draft.message) else { return None };
    if from == Peer::Client || !text.trim_ascii_start().starts_with('[') {
        return Some(());
    }
    let parts = split_batch(&draft.message).ok()?;
    let (part, quirk) = match <[Range<usize>; 1]>::try_from(parts) {
        Ok([part]) => (part, Quirk::ListOfOne),
        Err(parts) if matches!(from, Peer::Server { open: Some(_) }) => {
            (sole_response(&draft.message, parts)?, Quirk::Batches)
        }
        Err(_) => return None,
    };
    draft.message = draft.message.slice(part);
    draft.quirks.note(quirk);
    Some(())
}

/// The response in a batch in which everything else is a notification.
fn sole_response(batch: &[u8], parts: Vec<Range<usize>>) -> Option<Range<usize>> {
    let mut found = None;
    for part in parts {
        match Envelope::look(&batch[part.clone()]).ok()?.kind() {
            Kind::Notification => {}
            Kind::Response if found.is_none() => found = Some(part),
            Kind::Response | Kind::Request => return None,
        }
    }
    found
}

/// Replaces, adds and takes out members.
fn mend_members(draft: &mut Mended, from: Peer<'_>) -> Option<()> {
    let text = std::str::from_utf8(&draft.message).ok()?;
    let members = Members::of(text)?;
    let mut edits = Edits::default();
    if from != Peer::Client && is_incomplete(members.version) {
        edits.set("jsonrpc", "\"2.0\"", Quirk::NoVersionMember);
    }
    members.mend_nulls(&mut edits);
    members.mend_inside(&mut edits);
    if let (Peer::Server { open: Some(open) }, true) = (from, members.is_unnamed_result()) {
        edits.set("id", open, Quirk::IdsMissing);
    }
    let list: Vec<_> = edits.list.iter().map(|(name, value)| (*name, value.as_deref())).collect();
    let message = json::set_members(text, &list).ok()?;
    draft.quirks.merge(edits.quirks);
    draft.message = message.into();
    Some(())
}

/// Changes to the members of a message.
#[derive(Default)]
struct Edits {
    list: Vec<(&'static str, Option<String>)>,
    quirks: Quirks,
}

impl Edits {
    fn set(&mut self, name: &'static str, value: impl Into<String>, quirk: Quirk) {
        self.list.push((name, Some(value.into())));
        self.quirks.note(quirk);
    }

    fn remove_null(&mut self, name: &'static str) {
        self.list.push((name, None));
        self.quirks.note(Quirk::NullMembers);
    }
}

/// The members of a message, raw.
struct Members<'a> {
    version: Option<&'a str>,
    id: Option<&'a str>,
    method: Option<&'a str>,
    params: Option<&'a str>,
    result: Option<&'a str>,
    error: Option<&'a str>,
}

impl<'a> Members<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let found = json::members(text, ["jsonrpc", "id", "method", "params", "result", "error"]).ok()?;
        let [version, id, method, params, result, error] = found;
        Some(Self { version, id, method, params, result, error })
    }

    /// Whether `result` is there and says nothing, because the message is something else.
    fn has_idle_result(&self) -> bool {
        self.result == Some("null") && (present(self.method).is_some() || present(self.error).is_some())
    }

    fn is_unnamed_result(&self) -> bool {
        let is_result = self.result.is_some() && !self.has_idle_result();
        is_result && present(self.method).is_none() && present(self.id).is_none()
    }

    /// Takes out members that are `null`, and makes objects of what stands for ones without members.
    fn mend_nulls(&self, edits: &mut Edits) {
        for (name, raw) in [("method", self.method), ("params", self.params), ("error", self.error)] {
            if raw == Some("null") {
                edits.remove_null(name);
            }
        }
        if self.has_idle_result() {
            edits.remove_null("result");
        } else if self.result.is_some_and(is_empty_list) {
            edits.set("result", "{}", Quirk::NullMembers);
        }
        let method = present(self.method);
        if method.is_some() && self.params.is_some_and(is_empty_list) {
            edits.set("params", "{}", Quirk::NullMembers);
        }
        if method.is_some_and(is_notification) && self.id == Some("null") {
            edits.remove_null("id");
        }
    }

    /// The same in what the message carries; and completes an error.
    fn mend_inside(&self, edits: &mut Edits) {
        let method = present(self.method).and_then(|raw| json::string(raw).ok());
        let (name, raw) = if method.is_some() { ("params", self.params) } else { ("result", self.result) };
        let without = raw.and_then(|raw| absent::without(method.as_deref(), raw));
        if let Some(without) = without {
            edits.set(name, without, Quirk::NullMembers);
        }
        // A text without a sign of JSON-RPC beside it is an error of something else.
        let is_rpc = self.version.is_some() || self.id.is_some();
        if let Some(mended) = present(self.error).and_then(|raw| errors::completed(raw, is_rpc)) {
            edits.set("error", mended, Quirk::OddErrors);
        }
    }
}

fn present(raw: Option<&str>) -> Option<&str> {
    raw.filter(|raw| *raw != "null")
}

/// Whether `jsonrpc` is absent, or says version 2.0, or the one before it, in another way. Others may mean what they say.
fn is_incomplete(version: Option<&str>) -> bool {
    matches!(present(version), None | Some("2.0" | "2" | "1.0" | "\"2\"" | "\"1.0\""))
}

fn is_notification(method: &str) -> bool {
    json::string(method).is_ok_and(|method| method.starts_with("notifications/"))
}

impl Unreadable {
    /// A message that cannot be read because of `error`.
    #[cold]
    #[must_use]
    pub fn new(source: &[u8], error: EnvelopeError) -> Self {
        let at = place(&error);
        Self { error, at, length: source.len() }
    }

    /// Why, and what the message says there, without the secrets that its sender was sent.
    #[cold]
    #[must_use]
    pub fn quoted(&self, source: &[u8], secrets: &Secrets) -> String {
        format!("{}; it says \"{}\"", self.error, secrets.quote(source, self.at))
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Unreadable {}

/// Where an error is, in bytes from the start of the message; 0 where it is about the whole.
fn place(error: &EnvelopeError) -> usize {
    match error {
        EnvelopeError::Utf8 { at }
        | EnvelopeError::Json(JsonError::Syntax { at, .. } | JsonError::Depth { at }) => *at,
        _ => 0,
    }
}
