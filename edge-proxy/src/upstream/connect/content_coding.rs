//! Decompresses bodies that upstreams compress without being asked to. It must not know what they say.

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue};
use mcp::border::body::{self, Coding, InflateError, Inflater};

use super::HttpPool;
use crate::error::Fault;

/// The decompression of one body.
pub(super) enum Decoding {
    /// Of a coding that is decoded.
    Known(Inflater),
    /// Of another one, which the upstream names so. That is an error once something comes.
    Unknown(Box<str>),
}

impl Decoding {
    /// Returns the decompression that a response with these headers needs; mostly none.
    pub(super) fn of(headers: &HeaderMap, pool: &HttpPool) -> Option<Box<Self>> {
        headers.get(CONTENT_ENCODING).and_then(|value| Self::named(value, pool))
    }

    #[cold]
    fn named(value: &HeaderValue, pool: &HttpPool) -> Option<Box<Self>> {
        let coding = body::coding(Some(value.as_bytes()));
        if let Some(quirk) = coding.quirk() {
            pool.quirks.note(quirk, value.as_bytes());
        }
        if coding == Coding::Unknown {
            return Some(Box::new(Self::Unknown(pool.quirks.quote(value.as_bytes()))));
        }
        let limit = pool.max_message().max(pool.max_answer());
        Inflater::new(&coding, limit).map(|inflater| Box::new(Self::Known(inflater)))
    }

    /// Takes the next chunk.
    pub(super) fn feed(&mut self, chunk: Bytes) -> Result<(), Fault> {
        match self {
            Self::Known(inflater) => {
                inflater.feed(chunk);
                Ok(())
            }
            Self::Unknown(coding) => {
                Err(Fault::Malformed(format!("its body is encoded as {coding}, which was not asked for")))
            }
        }
    }

    /// Takes the end of the body.
    pub(super) fn end(&mut self) {
        if let Self::Known(inflater) = self {
            inflater.end();
        }
    }

    /// Returns the next part of what came, decompressed; `None` when there is no more of it.
    pub(super) fn step(&mut self) -> Result<Option<Bytes>, Fault> {
        match self {
            Self::Known(inflater) => inflater.step().map_err(fault),
            Self::Unknown(_) => Ok(None),
        }
    }

    /// A message of so many bytes was among the parts.
    pub(super) fn message_taken(&mut self, bytes: usize) {
        if let Self::Known(inflater) = self {
            inflater.message_taken(bytes);
        }
    }
}

fn fault(error: InflateError) -> Fault {
    match error {
        InflateError::TooLarge { .. } => Fault::TooLarge,
        InflateError::Malformed | InflateError::CutOff => Fault::Malformed(format!("its body {error}")),
    }
}
