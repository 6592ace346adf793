//! What a peer meant with a message that cannot be read strictly, where only one thing can be meant.
//!
//! Everything is mended in the bytes: what is not named as an edit stays as it was. It is never called for a message that
//! parses, and it must not know what a message is about.

use std::fmt;

use bytes::Bytes;

use super::excerpt::excerpt;
use crate::json::JsonError;
use crate::message::EnvelopeError;
use crate::quirk::Quirks;

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
    /// What it says there, safe to print.
    pub excerpt: Box<str>,
    /// Where, in bytes from its start.
    pub at: usize,
    /// Its size in bytes.
    pub length: usize,
}

/// Mends the message that [`crate::message::Envelope::parse`] refused with `error`.
///
/// # Errors
/// When it may be meant in several ways, or in none.
#[cold]
#[inline(never)]
pub fn mend(source: &Bytes, error: EnvelopeError, _from: Peer<'_>) -> Result<Mended, Unreadable> {
    Err(Unreadable::new(source, error))
}

impl Unreadable {
    /// A message that cannot be read because of `error`.
    #[cold]
    #[must_use]
    pub fn new(source: &[u8], error: EnvelopeError) -> Self {
        let at = place(&error);
        Self { error, excerpt: excerpt(source, at), at, length: source.len() }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; it says \"{}\"", self.error, self.excerpt)
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
