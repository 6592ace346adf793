//! What an event of a stream is, on Streamable HTTP and HTTP+SSE, and what is skipped there. It must not know who waits
//! for what.

use bytes::Bytes;

use crate::quirk::Quirk;
use crate::sse::{Decoder, Event};

/// Messages that are skipped before an answer comes, at most.
pub const MAX_SKIPPED: u32 = 1_000;
/// Bytes that are skipped before an answer comes, at most.
pub const MAX_SKIPPED_BYTES: usize = 1 << 20;

/// What is to be made of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take<'a> {
    /// It carries a message.
    Message(&'a Bytes),
    /// It carries an id, a retry time or nothing.
    Nothing,
    /// It carries something that is not MCP: it is skipped, and its quirk noted.
    Odd(Quirk),
}

/// What is to be made of an event. Those of types other than `message` carry no MCP, even if their data would parse.
#[inline]
#[must_use]
pub fn take(event: &Event) -> Take<'_> {
    match &event.event {
        None if event.data.trim_ascii().is_empty() => Take::Nothing,
        None => Take::Message(&event.data),
        Some(named) => take_named(named, &event.data),
    }
}

fn take_named<'a>(named: &[u8], data: &'a Bytes) -> Take<'a> {
    match (named, data.trim_ascii()) {
        (b"message" | b"", b"") => Take::Nothing,
        (b"message" | b"", _) => Take::Message(data),
        _ => Take::Odd(Quirk::ForeignEvents),
    }
}

/// The events of a whole body.
pub fn events_of(body: &Bytes) -> impl Iterator<Item = Event> {
    let mut decoder = Decoder::new(body.len());
    decoder.push(body.clone());
    std::iter::from_fn(move || decoder.next().ok().flatten())
}

/// What was skipped on a stream or channel since its last readable message.
#[derive(Debug)]
pub struct Skipped<E> {
    count: u32,
    bytes: usize,
    first: Option<E>,
}

impl<E> Default for Skipped<E> {
    fn default() -> Self {
        Self { count: 0, bytes: 0, first: None }
    }
}

impl<E: Clone> Skipped<E> {
    /// Counts a message of so many bytes that is skipped because of `error`.
    ///
    /// # Errors
    /// The error of the first message that was skipped, past [`MAX_SKIPPED`] messages or [`MAX_SKIPPED_BYTES`].
    pub fn add(&mut self, length: usize, error: impl FnOnce() -> E) -> Result<(), E> {
        let over = self.is_over(length);
        let first = self.first.get_or_insert_with(error);
        if over { Err(first.clone()) } else { Ok(()) }
    }

    /// Counts a message of so many bytes that is skipped, such as one to somebody else. Returns whether it is one too many.
    pub fn is_over(&mut self, bytes: usize) -> bool {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.count > MAX_SKIPPED || self.bytes > MAX_SKIPPED_BYTES
    }

    /// Begins anew: a message could be read.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The error of the first message that was skipped: the likely reason when no answer came.
    pub fn take_first(&mut self) -> Option<E> {
        self.first.take()
    }
}
