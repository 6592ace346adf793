//! JSON-RPC messages as envelopes that borrow: what routes a message is looked at, the rest is passed by.
//!
//! It must not know methods or their parameters; [`absent`] knows what in them is no value.

pub(crate) mod absent;

use std::borrow::Cow;
use std::ops::Range;

use crate::error;
use crate::json::{self, JsonError};
use crate::scan::Scanner;

/// Messages in a batch.
pub const MAX_BATCH: usize = 1024;

/// One JSON-RPC 2.0 message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Raw JSON, a string or a number. `None` in notifications, and in errors about unreadable messages.
    pub id: Option<&'a str>,
    /// The method, escapes taken out. `None` in responses.
    pub method: Option<Cow<'a, str>>,
    /// Raw JSON object. `None` also when it was `null`.
    pub params: Option<&'a str>,
    /// Raw JSON of any type.
    pub result: Option<&'a str>,
    /// Raw JSON object.
    pub error: Option<&'a str>,
}

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Has a method and an id.
    Request,
    /// Has a method and no id.
    Notification,
    /// Has a result or an error.
    Response,
}

/// Bytes that are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not UTF-8.
    #[error("not UTF-8 from byte {at} on")]
    Utf8 {
        /// Where the first wrong byte is.
        at: usize,
    },
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(#[from] JsonError),
    /// An array: a batch. [`split_batch`] takes it apart for the revision that has them.
    #[error("batches are not part of this revision")]
    Batch,
    /// JSON, but not an object.
    #[error("a message must be an object")]
    NotObject,
    /// `jsonrpc` is absent or not "2.0".
    #[error("member \"jsonrpc\" must be \"2.0\"")]
    Version,
    /// A member is there twice, so that readers could disagree on it.
    #[error("member {0:?} is repeated")]
    Repeated(&'static str),
    /// A member is spelled in another case, so that readers could disagree on it.
    #[error("member {found:?} differs from {member:?} in case only")]
    Variant {
        /// The member as it is spelled.
        found: String,
        /// The member that some readers take it for.
        member: &'static str,
    },
    /// `id` is not a string or a number.
    #[error("member \"id\" must be a string or a number")]
    Id,
    /// `method` is not a string.
    #[error("member \"method\" must be a string")]
    Method,
    /// `params` is not an object.
    #[error("member \"params\" must be an object")]
    Params,
    /// `error` is not an object that says what happened.
    #[error("member \"error\" must be an object with an integer \"code\" and a text \"message\"")]
    Error,
    /// `result` is a list without elements, which PHP writes for an object without members.
    #[error("member \"result\" must be an object")]
    Result,
    /// A member is `null` that must be absent then: SDKs drop the whole message for one.
    #[error("a member that must be absent is null")]
    Null,
    /// Not exactly one of method, result and error.
    #[error("a message must have exactly one of \"method\", \"result\" and \"error\"")]
    Shape,
    /// A response to nothing.
    #[error("a result must have an \"id\"")]
    NoId,
    /// A batch without a message.
    #[error("an empty batch")]
    EmptyBatch,
    /// A batch of more than [`MAX_BATCH`] messages.
    #[error("a batch of more than {MAX_BATCH} messages")]
    LongBatch,
}

impl EnvelopeError {
    /// The JSON-RPC code to answer with.
    #[must_use]
    pub fn code(&self) -> i64 {
        match self {
            Self::Utf8 { .. } | Self::Json(_) => error::PARSE_ERROR,
            _ => error::INVALID_REQUEST,
        }
    }
}

impl<'a> Envelope<'a> {
    /// Reads one message. The whole text is checked, so that what is relayed is well-formed, and what SDKs refuse is an error:
    /// [`crate::border::mend`] knows what was meant.
    ///
    /// # Errors
    /// When it is not exactly one JSON-RPC 2.0 message.
    pub fn parse(source: &'a [u8]) -> Result<Self, EnvelopeError> {
        let (parts, notes_null) = Parts::read(source)?;
        let envelope = parts.envelope()?;
        if notes_null && absent::any(&envelope) {
            return Err(EnvelopeError::Null);
        }
        Ok(envelope)
    }

    /// Reads a message that is looked at and goes no further: its members may be `null` for absent, and its error incomplete.
    ///
    /// # Errors
    /// When nobody can tell what it is.
    #[cold]
    pub fn look(source: &'a [u8]) -> Result<Self, EnvelopeError> {
        Parts::read(source)?.0.loose()
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match (&self.method, self.id) {
            (Some(_), Some(_)) => Kind::Request,
            (Some(_), None) => Kind::Notification,
            (None, _) => Kind::Response,
        }
    }
}

/// Returns the range of `part` in `source`, which it was borrowed from.
///
/// # Panics
/// When `part` was not borrowed from `source`.
#[must_use]
pub fn span(source: &[u8], part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(source.as_ptr() as usize);
    assert!(start <= source.len() && part.len() <= source.len() - start, "a part lies in its source");
    start..start + part.len()
}

/// Returns the ranges of the messages in a batch. They are well-formed JSON, and not checked further.
///
/// # Errors
/// When it is not a JSON array of one to [`MAX_BATCH`] elements.
pub fn split_batch(source: &[u8]) -> Result<Vec<Range<usize>>, EnvelopeError> {
    let mut parts = Vec::new();
    json::each_element(utf8(source)?, |part| {
        if parts.len() == MAX_BATCH {
            return Err(EnvelopeError::LongBatch);
        }
        parts.push(span(source, part));
        Ok(())
    })?;
    if parts.is_empty() {
        return Err(EnvelopeError::EmptyBatch);
    }
    Ok(parts)
}

fn utf8(source: &[u8]) -> Result<&str, EnvelopeError> {
    std::str::from_utf8(source).map_err(|e| EnvelopeError::Utf8 { at: e.valid_up_to() })
}

/// Tells other JSON from what is no JSON at all.
fn not_object(mut scanner: Scanner<'_>) -> EnvelopeError {
    match scanner.value().and_then(|_| scanner.end()) {
        Ok(()) => EnvelopeError::NotObject,
        Err(stop) => EnvelopeError::Json(scanner.error(stop)),
    }
}

/// The members that make a message.
const MEMBERS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// The members of a message, raw, in the order of [`MEMBERS`].
#[derive(Clone, Copy, Default)]
struct Parts<'a>([Option<&'a str>; 6]);

impl<'a> Parts<'a> {
    /// The parts of a message, and whether a member in one of them is `null` that may have to be absent.
    #[inline]
    fn read(source: &'a [u8]) -> Result<(Self, bool), EnvelopeError> {
        let mut scanner = Scanner::watching(utf8(source)?, &absent::OPTIONAL);
        scanner.space();
        match scanner.peek() {
            Some(b'{') => {}
            Some(b'[') => return Err(EnvelopeError::Batch),
            _ => return Err(not_object(scanner)),
        }
        let mut parts = Self::default();
        scanner.object(|key, value| parts.put(key, value))?;
        scanner.end().map_err(|stop| scanner.error(stop))?;
        Ok((parts, scanner.has_noted()))
    }

    #[inline]
    fn put(&mut self, key: &str, value: &'a str) -> Result<(), EnvelopeError> {
        let member = |name: &str| MEMBERS.iter().position(|member| *member == name);
        let name = &key[1..key.len() - 1];
        // Who spells a name with escapes must not slip a second one past us.
        let escaped = || name.contains('\\').then(|| member(&json::key_text(key))).flatten();
        let Some(at) = member(name).or_else(escaped) else {
            return no_variant(&json::key_text(key));
        };
        match self.0[at].replace(value) {
            None => Ok(()),
            Some(_) => Err(EnvelopeError::Repeated(MEMBERS[at])),
        }
    }

    /// The message that they are, in the form that it is relayed in.
    #[inline]
    fn envelope(self) -> Result<Envelope<'a>, EnvelopeError> {
        let [.., method, params, result, error] = self.0;
        let envelope = self.loose()?;
        // A null that is all that there is, is the result.
        let is_idle = result == Some("null") && envelope.result.is_none();
        if is_idle || [method, params, error].contains(&Some("null")) {
            return Err(EnvelopeError::Null);
        }
        match (envelope.result, envelope.error) {
            (Some(result), _) if is_empty_list(result) => Err(EnvelopeError::Result),
            (_, Some(error)) if !is_readable_error(error) => Err(EnvelopeError::Error),
            _ => Ok(envelope),
        }
    }

    /// The message that they can be told to be.
    #[inline]
    fn loose(self) -> Result<Envelope<'a>, EnvelopeError> {
        let [jsonrpc, id, method, params, result, error] = self.0;
        let version = jsonrpc.filter(|raw| raw.starts_with('"')).map(json::key_text);
        if version.as_deref() != Some("2.0") {
            return Err(EnvelopeError::Version);
        }
        // Who writes a struct writes its absent members as null: JSON-RPC 1.0 asks for it, and many serializers do it.
        let (error, method) = (present(error), present(method));
        let result = result.filter(|raw| (error.is_none() && method.is_none()) || *raw != "null");
        let shape = (method.is_some(), result.is_some(), error.is_some());
        let id = match shape {
            // The message that it answers was unreadable.
            (false, false, true) => present(id),
            (true, false, false) => id,
            (false, true, false) => Some(id.ok_or(EnvelopeError::NoId)?),
            _ => return Err(EnvelopeError::Shape),
        };
        if !id.is_none_or(is_id) {
            return Err(EnvelopeError::Id);
        }
        let method = match method {
            Some(raw) if raw.starts_with('"') => {
                Some(json::checked_string(raw).ok_or(EnvelopeError::Method)?)
            }
            Some(_) => return Err(EnvelopeError::Method),
            None => None,
        };
        Ok(Envelope {
            id,
            method,
            params: object(params, EnvelopeError::Params)?,
            result,
            error: object(error, EnvelopeError::Error)?,
        })
    }
}

/// Passes a member that means nothing here, unless some readers take it for one that does.
fn no_variant(name: &str) -> Result<(), EnvelopeError> {
    match json::variant_of(name, &MEMBERS) {
        None => Ok(()),
        Some(member) => Err(EnvelopeError::Variant { found: name.to_owned(), member }),
    }
}

/// A member that is there and not null.
fn present(raw: Option<&str>) -> Option<&str> {
    raw.filter(|raw| *raw != "null")
}

fn object(raw: Option<&str>, wrong: EnvelopeError) -> Result<Option<&str>, EnvelopeError> {
    match present(raw) {
        Some(raw) if !raw.starts_with('{') => Err(wrong),
        other => Ok(other),
    }
}

/// Whether a raw value is a list without elements.
pub(crate) fn is_empty_list(raw: &str) -> bool {
    raw.strip_prefix('[').is_some_and(|rest| rest.trim_ascii_start() == "]")
}

/// Whether an error has a code and a message, as SDKs read them.
#[cold]
fn is_readable_error(error: &str) -> bool {
    let [code, message] = json::members(error, ["code", "message"]).unwrap_or_default();
    code.is_some_and(is_error_code) && message.is_some_and(|raw| raw.starts_with('"'))
}

/// Whether a raw value is an integer that every peer can hold.
pub(crate) fn is_error_code(raw: &str) -> bool {
    raw.parse::<i64>().is_ok_and(|code| code.unsigned_abs() < 1 << 53)
}

/// A string or a number, of any length. One with a fraction or an exponent goes back as it came: whoever writes 7.0 for 7
/// reads it, too.
fn is_id(raw: &str) -> bool {
    raw.starts_with(['"', '-']) || raw.starts_with(|first: char| first.is_ascii_digit())
}
