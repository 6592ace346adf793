//! Decompresses bodies that upstreams compress without being asked to. It must not know what they say.

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue};
use mcp::border::body::{self, Coding, InflateError, Inflater};
use mcp::quirk::Quirk;

use super::HttpPool;
use crate::error::Fault;

/// The decompression of one body.
pub(super) struct Decoding {
    /// `None` where the coding is not decoded.
    inflater: Option<Inflater>,
    /// The coding that the upstream names, safe to print.
    name: Box<str>,
    /// Bytes that one chunk may come to.
    limit: usize,
    begun: bool,
}

impl Decoding {
    /// Returns the decompression that a response with these headers needs; mostly none.
    pub(super) fn of(headers: &HeaderMap, pool: &HttpPool) -> Option<Box<Self>> {
        headers.get(CONTENT_ENCODING).and_then(|value| Self::named(value, pool))
    }

    #[cold]
    fn named(value: &HeaderValue, pool: &HttpPool) -> Option<Box<Self>> {
        let text = String::from_utf8_lossy(value.as_bytes());
        let coding = body::coding(Some(value.as_bytes()));
        let name = match &coding {
            Coding::Identity => return None,
            Coding::Mislabelled => {
                pool.quirks.note(Quirk::WrongLabel, &text);
                return None;
            }
            Coding::Gzip | Coding::Deflate => {
                pool.quirks.note(Quirk::UnaskedCoding, &text);
                text.into()
            }
            Coding::Unknown(name) => name.clone(),
        };
        let limit = pool.max_message();
        Some(Box::new(Self { inflater: Inflater::new(&coding), name, limit, begun: false }))
    }

    /// Returns what the next chunk decompresses to.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<Bytes, Fault> {
        let Some(inflater) = &mut self.inflater else {
            let coding = &self.name;
            return Err(Fault::Malformed(format!(
                "its body is encoded as {coding}, which was not asked for"
            )));
        };
        self.begun = true;
        inflater.feed(chunk, self.limit).map_err(fault)
    }

    /// Returns what was still to come when the body ended.
    pub(super) fn finish(mut self) -> Result<Bytes, Fault> {
        match self.inflater.take().filter(|_| self.begun) {
            Some(mut inflater) => inflater.finish(self.limit).map_err(fault),
            None => Ok(Bytes::new()),
        }
    }
}

fn fault(error: InflateError) -> Fault {
    match error {
        InflateError::TooLarge { .. } => Fault::TooLarge,
        InflateError::Malformed | InflateError::CutOff => Fault::Malformed(format!("its body {error}")),
    }
}
