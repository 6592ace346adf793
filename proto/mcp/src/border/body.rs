//! What a body plainly is, whatever its label, and how it is compressed. It must not know requests and answers.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::excerpt::excerpt;
use super::mark::{MARK, without_mark};
use crate::header::{EVENT_STREAM, JSON};

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// One JSON text.
    Json,
    /// Server-Sent Events.
    Events,
}

/// What `Content-Type` says, the first of a list; `None` when it is absent or something else: then [`sniff`] tells.
#[inline]
#[must_use]
pub fn label(content_type: Option<&[u8]>) -> Option<Media> {
    let value = content_type?;
    let end = memchr::memchr2(b';', b',', value).unwrap_or(value.len());
    let kind = value[..end].trim_ascii();
    if kind.eq_ignore_ascii_case(JSON.as_bytes()) {
        Some(Media::Json)
    } else if kind.eq_ignore_ascii_case(EVENT_STREAM.as_bytes()) {
        Some(Media::Events)
    } else {
        is_other_json(kind).then_some(Media::Json)
    }
}

/// The names of JSON that are not the one of MCP: those of JSON-RPC over HTTP, the old one, and types that are built on
/// JSON (RFC 6839 §3.1).
#[cold]
fn is_other_json(kind: &[u8]) -> bool {
    let kind = kind.to_ascii_lowercase();
    matches!(&*kind, b"text/json" | b"application/json-rpc" | b"application/jsonrequest")
        || kind.starts_with(b"application/") && kind.ends_with(b"+json")
}

/// First bytes that are looked at to see what a body is, at most.
const MAX_SNIFFED: usize = 4 << 10;
/// How a body begins that carries events: with a field, or with a comment.
const FIELDS: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];

/// What a body is by its first bytes; `None` when it is neither. MCP has objects and, in batches, arrays.
#[cold]
#[must_use]
pub fn sniff(first_bytes: &[u8]) -> Option<Media> {
    let start = without_mark(first_bytes).trim_ascii_start();
    if start.starts_with(b"{") || start.starts_with(b"[") {
        return Some(Media::Json);
    }
    FIELDS.iter().any(|field| start.starts_with(field)).then_some(Media::Events)
}

/// What a body is, by its label and its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// What its label says.
    Labelled(Media),
    /// Something else than its label says, or it has none.
    Mislabelled(Media),
    /// Neither; it has no label.
    Neither,
}

/// What a body is that has this label and these first bytes: no label stands against what they plainly are. `None` where more
/// of them must come first; never once the body has `ended`.
#[inline]
#[must_use]
pub fn tell(label: Option<Media>, first_bytes: &[u8], ended: bool) -> Option<Told> {
    match (label, first_bytes.first()) {
        (Some(Media::Json), Some(b'{')) => Some(Told::Labelled(Media::Json)),
        (Some(Media::Events), Some(b'd' | b'e' | b'i' | b'r' | b':')) => Some(Told::Labelled(Media::Events)),
        _ => tell_odd(label, first_bytes, ended),
    }
}

#[cold]
fn tell_odd(label: Option<Media>, first_bytes: &[u8], ended: bool) -> Option<Told> {
    let labelled = label.map_or(Told::Neither, Told::Labelled);
    match sniff(first_bytes) {
        Some(media) if label == Some(media) => Some(labelled),
        Some(media) => Some(Told::Mislabelled(media)),
        None if !ended && first_bytes.len() < MAX_SNIFFED && tells_nothing(first_bytes) => None,
        None => Some(labelled),
    }
}

/// Whether these are no more than white space, or the beginning of a mark or a field.
fn tells_nothing(first_bytes: &[u8]) -> bool {
    let start = without_mark(first_bytes).trim_ascii_start();
    MARK.starts_with(start) || FIELDS.iter().any(|field| field.starts_with(start))
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
    /// `deflate`, with the frame of zlib (RFC 9110 §8.4.1.2) or, as some send it, without.
    Deflate,
    /// In a way that is not decoded, safe to print.
    Unknown(Box<str>),
}

/// How a body is compressed.
#[inline]
#[must_use]
pub fn coding(content_encoding: Option<&[u8]>) -> Coding {
    content_encoding.map_or(Coding::Identity, named_coding)
}

#[cold]
fn named_coding(value: &[u8]) -> Coding {
    let lower = value.to_ascii_lowercase();
    let mut applied = lower
        .split(|byte| *byte == b',')
        .map(|name| name.trim_ascii())
        .filter(|name| !matches!(*name, b"" | b"identity"));
    let coding = match applied.next() {
        None => Coding::Identity,
        Some(b"gzip" | b"x-gzip") => Coding::Gzip,
        Some(b"deflate") => Coding::Deflate,
        Some(b"none" | b"utf-8" | b"utf8" | b"binary" | b"7bit" | b"8bit") => Coding::Mislabelled,
        Some(_) => Coding::Unknown(excerpt(value, 0)),
    };
    if applied.next().is_some() { Coding::Unknown(excerpt(value, 0)) } else { coding }
}

/// Decompresses a body while it is read. What a chunk decompresses to is bounded, however well it was compressed.
pub struct Inflater(State);

enum State {
    /// Nothing has come yet: whether `deflate` has a frame shows in its first byte.
    New {
        gzip: bool,
    },
    Running(Box<dyn Decode + Send>),
    Failed(InflateError),
    Finished,
}

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
    pub fn new(coding: &Coding) -> Option<Self> {
        match coding {
            Coding::Gzip => Some(Self(State::New { gzip: true })),
            Coding::Deflate => Some(Self(State::New { gzip: false })),
            Coding::Identity | Coding::Mislabelled | Coding::Unknown(_) => None,
        }
    }

    /// What the next chunk of the body decompresses to, `limit` bytes at most. All that has come is given out: events are
    /// not held back.
    ///
    /// # Errors
    /// When it is larger or broken; from then on always.
    pub fn feed(&mut self, chunk: &[u8], limit: usize) -> Result<Bytes, InflateError> {
        if let (State::New { gzip }, Some(first)) = (&self.0, chunk.first()) {
            self.0 = State::Running(decoder(*gzip, *first));
        }
        let feed =
            |decoder: &mut (dyn Decode + Send)| decoder.write_all(chunk).and_then(|()| decoder.flush());
        self.run(limit, feed, InflateError::Malformed)
    }

    /// The body has ended; returns what was still to come, `limit` bytes at most. Nothing is the body of nothing.
    ///
    /// # Errors
    /// When it is larger, or, with gzip, its end is missing or does not fit.
    pub fn finish(&mut self, limit: usize) -> Result<Bytes, InflateError> {
        let rest = self.run(limit, |decoder| decoder.end(), InflateError::CutOff)?;
        self.0 = State::Finished;
        Ok(rest)
    }

    /// Runs the decoder, and takes what came out of it.
    fn run(
        &mut self,
        limit: usize,
        act: impl FnOnce(&mut (dyn Decode + Send)) -> io::Result<()>,
        failure: InflateError,
    ) -> Result<Bytes, InflateError> {
        let decoder = match &mut self.0 {
            State::Running(decoder) => decoder,
            State::Failed(error) => return Err(*error),
            State::New { .. } | State::Finished => return Ok(Bytes::new()),
        };
        decoder.sink().limit = limit;
        let ended = act(&mut **decoder);
        let sink = decoder.sink();
        if ended.is_ok() {
            return Ok(sink.out.split().freeze());
        }
        let error = if sink.is_full { InflateError::TooLarge { limit } } else { failure };
        self.0 = State::Failed(error);
        Err(error)
    }
}

/// The decoder of a body that begins with `first`. Raw deflate never begins as the frame of zlib does, with the number of
/// its method in the low half of the first byte (RFC 1950 §2.2): compressors do not write stored blocks with odd padding.
fn decoder(gzip: bool, first: u8) -> Box<dyn Decode + Send> {
    match (gzip, first & 0x0f) {
        (true, _) => Box::new(MultiGzDecoder::new(Sink::default())),
        (false, 8) => Box::new(ZlibDecoder::new(Sink::default())),
        (false, _) => Box::new(DeflateDecoder::new(Sink::default())),
    }
}

/// What the decoders of the codings have in common.
trait Decode: Write {
    fn sink(&mut self) -> &mut Sink;
    fn end(&mut self) -> io::Result<()>;
}

macro_rules! decode {
    ($($decoder:ident)+) => {$(
        impl Decode for $decoder<Sink> {
            fn sink(&mut self) -> &mut Sink {
                self.get_mut()
            }

            fn end(&mut self) -> io::Result<()> {
                self.try_finish()
            }
        }
    )+};
}

decode! { MultiGzDecoder ZlibDecoder DeflateDecoder }

/// Takes what is decompressed, up to a limit.
#[derive(Default)]
struct Sink {
    out: BytesMut,
    limit: usize,
    is_full: bool,
}

impl Write for Sink {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if part.len() > self.limit - self.out.len().min(self.limit) {
            self.is_full = true;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.out.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
