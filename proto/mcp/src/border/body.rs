//! What a body plainly is, whatever its label, and how it is compressed. It must not know requests and answers.

use bytes::Bytes;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// One JSON text.
    Json,
    /// Server-Sent Events.
    Events,
}

/// What `Content-Type` says; `None` when it is absent or something else: then [`sniff`] tells.
#[must_use]
pub fn label(content_type: Option<&[u8]>) -> Option<Media> {
    let value = std::str::from_utf8(content_type?).ok()?;
    let kind = value.split_once(';').map_or(value, |(kind, _)| kind).trim();
    if kind.eq_ignore_ascii_case(crate::header::JSON) {
        Some(Media::Json)
    } else if kind.eq_ignore_ascii_case(crate::header::EVENT_STREAM) {
        Some(Media::Events)
    } else {
        None
    }
}

/// What a body is by its first bytes; `None` when it is neither.
#[cold]
#[must_use]
pub fn sniff(_first_bytes: &[u8]) -> Option<Media> {
    None
}

/// How a body is compressed (`Content-Encoding`, RFC 9110 §8.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coding {
    /// Not at all; the header is absent or says so.
    Identity,
    /// Not at all, though the header has a word that is no coding, such as `utf-8`.
    Mislabelled,
    /// `gzip`, also as `x-gzip`.
    Gzip,
    /// `deflate`, with or without the frame of zlib.
    Deflate,
    /// In a way that is not decoded, safe to print.
    Unknown(Box<str>),
}

/// How a body is compressed.
#[must_use]
pub fn coding(_content_encoding: Option<&[u8]>) -> Coding {
    Coding::Identity
}

/// Decompresses a body while it is read.
pub struct Inflater {}

/// A body that cannot be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// It is larger than the limit.
    #[error("is larger than {limit} bytes when it is decompressed")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It is not what `Content-Encoding` says.
    #[error("is not compressed as its Content-Encoding says")]
    Malformed,
    /// It ends early.
    #[error("ends within what is compressed")]
    CutOff,
}

impl Inflater {
    /// An inflater; `None` for what is not compressed, or in a way that is not decoded.
    #[must_use]
    pub fn new(_coding: &Coding) -> Option<Self> {
        None
    }

    /// What the next chunk of the body decompresses to, `limit` bytes at most.
    ///
    /// # Errors
    /// When it is larger or broken; from then on always.
    pub fn feed(&mut self, chunk: &[u8], _limit: usize) -> Result<Bytes, InflateError> {
        Ok(Bytes::copy_from_slice(chunk))
    }

    /// The body has ended; returns what was still to come, `limit` bytes at most.
    ///
    /// # Errors
    /// When it is larger or broken, or its end is missing.
    pub fn finish(&mut self, _limit: usize) -> Result<Bytes, InflateError> {
        Ok(Bytes::new())
    }
}
