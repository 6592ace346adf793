//! Edits to a message that leave every other byte alone.
//!
//! It must not know what the bytes mean.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Edits to one source, collected and then applied together.
///
/// ```
/// # use mcp::splice::Splice;
/// let out = Splice::new().replace(1..2, "xyz").replace(3..3, "!").apply(b"abcd");
/// assert_eq!(&out[..], b"axyzc!d");
/// ```
#[derive(Debug, Default, Clone)]
pub struct Splice<'a> {
    edits: Vec<(Range<usize>, Piece<'a>)>,
}

/// Bytes that are put in.
#[derive(Debug, Clone)]
pub enum Piece<'a> {
    /// Bytes of the caller.
    Borrowed(&'a [u8]),
    /// Bytes of the splice.
    Owned(Bytes),
}

impl<'a> Splice<'a> {
    /// No edits yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `piece` in the place of `range`. An empty range inserts.
    #[must_use]
    pub fn replace(mut self, range: Range<usize>, piece: impl Into<Piece<'a>>) -> Self {
        self.edits.push((range, piece.into()));
        self
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// `source` with all edits applied, in one allocation. Edits may be given in any order; those at the same empty
    /// range come out in the order they were given.
    ///
    /// # Panics
    /// When edits overlap or lie outside of `source`: ranges come from [`crate::message::span`] over the same source.
    #[must_use]
    pub fn apply(mut self, source: &[u8]) -> Bytes {
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let mut out = BytesMut::with_capacity(self.length(source.len()));
        let mut at = 0;
        for (range, piece) in &self.edits {
            out.extend_from_slice(&source[at..range.start]);
            out.extend_from_slice(piece.as_ref());
            at = range.end;
        }
        out.extend_from_slice(&source[at..]);
        out.freeze()
    }

    /// The length of what [`Self::apply`] makes of `source` bytes.
    #[must_use]
    pub fn length(&self, source: usize) -> usize {
        self.edits.iter().fold(source, |length, (range, piece)| {
            (length + piece.as_ref().len()).saturating_sub(range.len())
        })
    }
}

impl AsRef<[u8]> for Piece<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl<'a> From<&'a [u8]> for Piece<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Borrowed(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Piece<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Borrowed(bytes)
    }
}

impl<'a> From<&'a str> for Piece<'a> {
    fn from(text: &'a str) -> Self {
        Self::Borrowed(text.as_bytes())
    }
}

impl From<String> for Piece<'_> {
    fn from(text: String) -> Self {
        Self::Owned(text.into())
    }
}

impl From<Vec<u8>> for Piece<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes.into())
    }
}

impl From<Bytes> for Piece<'_> {
    fn from(bytes: Bytes) -> Self {
        Self::Owned(bytes)
    }
}
