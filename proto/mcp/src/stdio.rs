//! Messages over byte streams: one a line.
//!
//! It must not know what a message says.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// The start of a line that is too long which is kept.
pub const KEPT_START: usize = 4 << 10;

/// An error of a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The line is larger than the limit; it is skipped and the next one can be had.
    #[error("a line is larger than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
        /// Its first [`KEPT_START`] bytes, or as many as the limit: [`crate::border::ids::id_in_prefix`] may find there what it was about.
        start: Bytes,
    },
}

/// Takes a stream apart into lines.
///
/// What it holds is bounded by `max_line_bytes`, plus the chunks that were pushed and not yet asked for: push, then
/// call `next` until it has no more.
#[derive(Debug)]
pub struct LineDecoder {
    limit: usize,
    chunks: VecDeque<Bytes>,
    partial: BytesMut,
    /// In a line that was refused.
    skipping: bool,
}

impl LineDecoder {
    /// A decoder that refuses lines larger than `max_line_bytes`.
    #[must_use]
    pub fn new(max_line_bytes: usize) -> Self {
        Self { limit: max_line_bytes, chunks: VecDeque::new(), partial: BytesMut::new(), skipping: false }
    }

    /// Adds what arrived.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// The next whole line that is not blank, without its end; or `None` until more is pushed.
    ///
    /// # Errors
    /// Once for every line that is larger than the limit.
    #[expect(clippy::should_implement_trait, reason = "it is not an iterator: `None` is not the end")]
    pub fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        while let Some(mut chunk) = self.chunks.pop_front() {
            let Some(end) = memchr::memchr(b'\n', &chunk) else {
                self.keep(&chunk)?;
                continue;
            };
            let line = chunk.split_to(end);
            let _feed = chunk.split_to(1);
            if !chunk.is_empty() {
                self.chunks.push_front(chunk);
            }
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if let Some(line) = self.whole(line)? {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// The line that the stream's end cut off, if any.
    pub fn finish(&mut self) -> Option<Bytes> {
        let line = self.partial.split().freeze();
        (!line.trim_ascii().is_empty()).then_some(line)
    }

    fn keep(&mut self, start: &[u8]) -> Result<(), LineError> {
        if self.skipping {
            return Ok(());
        }
        if self.partial.len() + start.len() > self.limit {
            let mut kept = std::mem::take(&mut self.partial);
            kept.extend_from_slice(&start[..start.len().min(KEPT_START)]);
            self.skipping = true;
            // Copied, so that the rest is free.
            let start = Bytes::copy_from_slice(&kept[..KEPT_START.min(self.limit)]);
            return Err(LineError::TooLong { limit: self.limit, start });
        }
        self.partial.extend_from_slice(start);
        Ok(())
    }

    fn whole(&mut self, end: Bytes) -> Result<Option<Bytes>, LineError> {
        let mut line = end;
        if !self.partial.is_empty() || line.len() > self.limit {
            let kept = self.keep(&line);
            // Its end is here already: nothing is left to skip.
            self.skipping = false;
            kept?;
            line = self.partial.split().freeze();
        }
        if line.ends_with(b"\r") {
            line.truncate(line.len() - 1);
        }
        Ok((!line.trim_ascii().is_empty()).then_some(line))
    }
}

/// A message as a line. Line breaks between its tokens, the only ones that JSON allows, become spaces.
#[must_use]
pub fn encode(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 1);
    out.extend_from_slice(message);
    if memchr::memchr2(b'\n', b'\r', message).is_some() {
        for byte in out.iter_mut().filter(|b| matches!(b, b'\n' | b'\r')) {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\n");
    out.freeze()
}
