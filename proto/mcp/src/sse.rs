//! Server-Sent Events: an incremental decoder that slices what it was given, and an encoder.
//!
//! It must not know that events carry JSON-RPC.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// A comment that keeps intermediaries from closing an idle stream.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// One event. Its bytes are not checked for being UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// The type; `None` is `message`.
    pub event: Option<Bytes>,
    /// The lines of data, joined by line feeds. Empty in events that only carry an id or a retry time.
    pub data: Bytes,
    /// The id to resume from after a reconnect.
    pub id: Option<Bytes>,
    /// How long to wait before a reconnect, in milliseconds.
    pub retry: Option<u64>,
}

/// An error after which a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// An event, or a line that does not end, is larger than the decoder's limit.
    #[error("an event is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

/// Bytes that are kept of each end of what is too large.
const KEPT: usize = 512;

/// The first and the last bytes of what was too large to be held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ends {
    /// The first bytes.
    pub first: Vec<u8>,
    /// The last bytes, which may be among the first as well.
    pub last: Vec<u8>,
}

impl Ends {
    /// Adds what comes next, of which the middle is forgotten.
    pub fn add(&mut self, bytes: &[u8]) {
        let room = KEPT - self.first.len();
        self.first.extend_from_slice(&bytes[..room.min(bytes.len())]);
        let new = &bytes[bytes.len().saturating_sub(KEPT)..];
        let excess = (self.last.len() + new.len()).saturating_sub(KEPT);
        self.last.drain(..excess);
        self.last.extend_from_slice(new);
    }
}

/// Takes a stream apart into events.
///
/// What it holds is bounded by `max_event_bytes`, plus the chunks that were pushed and not yet asked for: push, then
/// call `next` until it has no more.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    chunks: VecDeque<Bytes>,
    /// The start of a line whose end has not come yet.
    partial: BytesMut,
    /// The last line ended with a carriage return; a line feed that follows belongs to it.
    after_return: bool,
    first_line: bool,
    failed: bool,
    /// Whether it goes on after an event that is too large.
    skips: bool,
    skipping: Option<Box<Skipping>>,
    /// What is left of the event that was skipped last.
    ends: Option<Ends>,
    pending: Pending,
}

/// An event that is too large, while it is skipped.
#[derive(Debug, Default)]
struct Skipping {
    ends: Ends,
    /// Whether a line has begun.
    in_line: bool,
}

/// The event that is being put together.
#[derive(Debug, Default, Clone)]
struct Pending {
    event: Option<Bytes>,
    /// A single line stays a slice of its chunk.
    line: Option<Bytes>,
    /// Two lines and more, joined.
    lines: BytesMut,
    id: Option<Bytes>,
    retry: Option<u64>,
    size: usize,
}

impl Decoder {
    /// A decoder that refuses events larger than `max_event_bytes`.
    #[must_use]
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            limit: max_event_bytes,
            chunks: VecDeque::new(),
            partial: BytesMut::new(),
            after_return: false,
            first_line: true,
            failed: false,
            skips: false,
            skipping: None,
            ends: None,
            pending: Pending::default(),
        }
    }

    /// A decoder that skips events larger than `max_event_bytes`: `next` fails once at the end of each, and goes on after it.
    #[must_use]
    pub fn skipping(max_event_bytes: usize) -> Self {
        Self { skips: true, ..Self::new(max_event_bytes) }
    }

    /// Takes what is left of the data of the event for which `next` has failed, if it goes on.
    #[cold]
    pub fn take_ends(&mut self) -> Option<Ends> {
        self.ends.take()
    }

    /// Adds what arrived.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() && !self.failed {
            self.chunks.push_back(chunk);
        }
    }

    /// The next whole event, or `None` until more is pushed. An event that the stream's end cuts off never comes.
    ///
    /// # Errors
    /// When the limit is passed; from then on always, unless it skips.
    #[expect(clippy::should_implement_trait, reason = "it is not an iterator: `None` is not the end")]
    pub fn next(&mut self) -> Result<Option<Event>, EventError> {
        if self.failed {
            return Err(EventError::TooLarge { limit: self.limit });
        }
        if self.skipping.is_some() {
            return self.skip().map(|()| None);
        }
        match self.read() {
            Err(_) if self.skipping.is_some() => self.skip().map(|()| None),
            read => read,
        }
    }

    fn read(&mut self) -> Result<Option<Event>, EventError> {
        while let Some(line) = self.line()? {
            if line.is_empty() {
                if let Some(event) = self.pending.take() {
                    return Ok(Some(event));
                }
            } else if line[0] != b':' {
                self.pending.field(&line);
                self.bound(self.pending.size, None)?;
            }
        }
        Ok(None)
    }

    /// Whether an event has begun whose end has not come yet.
    #[inline]
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.pending.size > 0 || !self.partial.is_empty()
    }

    /// The event whose end has not come yet, as far as it came. By the standard it is none.
    #[must_use]
    pub fn unended(&self) -> Option<Event> {
        let mut pending = self.pending.clone();
        if self.partial.first().is_some_and(|first| *first != b':') {
            pending.field(&Bytes::copy_from_slice(&self.partial));
        }
        pending.take()
    }

    /// Forgets the event whose end has not come yet.
    pub fn skip_unended(&mut self) {
        self.partial.clear();
        self.pending = Pending::default();
    }

    /// The next whole line, without its end.
    fn line(&mut self) -> Result<Option<Bytes>, EventError> {
        while let Some(mut chunk) = self.chunks.pop_front() {
            if std::mem::take(&mut self.after_return) && chunk[0] == b'\n' {
                let _feed = chunk.split_to(1);
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', &chunk) else {
                self.keep(&chunk)?;
                continue;
            };
            let line = chunk.split_to(end);
            self.after_return = chunk.split_to(1)[0] == b'\r';
            if !chunk.is_empty() {
                self.chunks.push_front(chunk);
            }
            return self.whole(line).map(Some);
        }
        Ok(None)
    }

    /// Keeps the start of a line for when its end comes.
    fn keep(&mut self, start: &[u8]) -> Result<(), EventError> {
        let size = self.pending.size + self.partial.len() + start.len();
        self.bound(size, Some(start))?;
        self.partial.extend_from_slice(start);
        Ok(())
    }

    /// A line from its last part and what was kept of it. It is bounded alike however it was cut.
    fn whole(&mut self, end: Bytes) -> Result<Bytes, EventError> {
        let size = self.pending.size + self.partial.len() + end.len();
        if let Err(error) = self.bound(size, Some(&end)) {
            if let Some(skipping) = &mut self.skipping {
                skipping.in_line = false;
            }
            return Err(error);
        }
        let mut line = end;
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(&line);
            line = self.partial.split().freeze();
        }
        if std::mem::take(&mut self.first_line) && line.starts_with(b"\xef\xbb\xbf") {
            let _mark = line.split_to(3);
        }
        Ok(line)
    }

    /// Refuses an event of so many bytes, the last of which are `part` of a line that is not held yet.
    fn bound(&mut self, size: usize, part: Option<&[u8]>) -> Result<(), EventError> {
        if size <= self.limit { Ok(()) } else { self.refuse(part) }
    }

    #[cold]
    fn refuse(&mut self, part: Option<&[u8]>) -> Result<(), EventError> {
        if self.skips {
            let (pending, partial) = (std::mem::take(&mut self.pending), self.partial.split());
            let mut skipping = Skipping::default();
            skipping.ends.add(pending.line.as_deref().unwrap_or(&pending.lines));
            skipping.add(&partial);
            skipping.add(part.unwrap_or_default());
            self.skipping = Some(Box::new(skipping));
        } else {
            *self = Self { failed: true, ..Self::new(self.limit) };
        }
        Err(EventError::TooLarge { limit: self.limit })
    }

    /// Skips what came of an event that is too large. Fails at its end.
    #[cold]
    fn skip(&mut self) -> Result<(), EventError> {
        let Some(skipping) = &mut self.skipping else { return Ok(()) };
        while let Some(mut chunk) = self.chunks.pop_front() {
            if std::mem::take(&mut self.after_return) && chunk[0] == b'\n' {
                let _feed = chunk.split_to(1);
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', &chunk) else {
                skipping.add(&chunk);
                continue;
            };
            let line = chunk.split_to(end);
            self.after_return = chunk.split_to(1)[0] == b'\r';
            if !chunk.is_empty() {
                self.chunks.push_front(chunk);
            }
            let is_blank = line.is_empty() && !skipping.in_line;
            skipping.add(&line);
            skipping.in_line = false;
            if is_blank {
                self.ends = self.skipping.take().map(|skipped| skipped.ends);
                return Err(EventError::TooLarge { limit: self.limit });
            }
        }
        Ok(())
    }
}

impl Skipping {
    /// Adds a part of a line of data.
    fn add(&mut self, part: &[u8]) {
        let data = match part.strip_prefix(b"data:") {
            Some(data) if !self.in_line => data.strip_prefix(b" ").unwrap_or(data),
            _ => part,
        };
        self.ends.add(data);
        self.in_line |= !part.is_empty();
    }
}

impl Pending {
    fn field(&mut self, line: &Bytes) {
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let mut value = line.slice(line.len().min(colon + 1)..);
        if value.first() == Some(&b' ') {
            value = value.slice(1..);
        }
        let name = &line[..colon];
        if matches!(name, b"data" | b"event" | b"id") {
            self.size += value.len() + 1;
        }
        match name {
            b"data" => self.data(value),
            b"event" => self.event = Some(value),
            b"id" if !value.contains(&0) => self.id = Some(value),
            b"retry" => self.retry = milliseconds(&value).or(self.retry),
            _ => {}
        }
    }

    fn data(&mut self, value: Bytes) {
        match self.line.take() {
            None if self.lines.is_empty() => self.line = Some(value),
            None => self.append(&value),
            Some(first) => {
                self.lines.reserve(first.len() + 1 + value.len());
                self.lines.extend_from_slice(&first);
                self.append(&value);
            }
        }
    }

    fn append(&mut self, value: &[u8]) {
        self.lines.extend_from_slice(b"\n");
        self.lines.extend_from_slice(value);
    }

    /// The event that a blank line ends, unless nothing but a type was given.
    fn take(&mut self) -> Option<Event> {
        let done = std::mem::take(self);
        let data = match done.line {
            Some(line) => Some(line),
            None if done.lines.is_empty() => None,
            None => Some(done.lines.freeze()),
        };
        if data.is_none() && done.id.is_none() && done.retry.is_none() {
            return None;
        }
        Some(Event { event: done.event, data: data.unwrap_or_default(), id: done.id, retry: done.retry })
    }
}

fn milliseconds(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

/// An event on the wire. A type or id with a line break in it, which the format cannot carry, is left out.
#[must_use]
pub fn encode(event: &Event) -> Bytes {
    let mut out = BytesMut::with_capacity(event.data.len() + 64);
    field(&mut out, "event", event.event.as_deref());
    field(&mut out, "id", event.id.as_deref());
    if let Some(retry) = event.retry {
        field(&mut out, "retry", Some(retry.to_string().as_bytes()));
    }
    data(&mut out, &event.data);
    out.freeze()
}

/// An event of nothing but data, on the wire.
#[must_use]
pub fn encode_data(bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes.len() + 8);
    data(&mut out, bytes);
    out.freeze()
}

fn field(out: &mut BytesMut, name: &str, value: Option<&[u8]>) {
    let Some(value) = value.filter(|v| memchr::memchr3(b'\n', b'\r', 0, v).is_none()) else {
        return;
    };
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\n");
}

/// The data lines and the blank line that ends the event.
fn data(out: &mut BytesMut, mut bytes: &[u8]) {
    loop {
        let end = memchr::memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len());
        field(out, "data", Some(&bytes[..end]));
        bytes = match &bytes[end..] {
            [] => break,
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
        };
    }
    out.extend_from_slice(b"\n");
}
