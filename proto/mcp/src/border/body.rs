//! What a body plainly is, whatever its label, and how it is compressed. It must not know requests and answers.

use std::io::{self, Write};

use bytes::buf::Writer;
use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::mark::{MARK, without_mark};
use crate::header::{EVENT_STREAM, JSON};
use crate::quirk::Quirk;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Not at all; the header is absent or says so.
    Identity,
    /// Not at all, though the header has a word that is no coding, such as `utf-8`.
    Mislabelled,
    /// `gzip`, also as `x-gzip`.
    Gzip,
    /// `deflate`, with the frame of zlib (RFC 9110 §8.4.1.2) or, as some send it, without.
    Deflate,
    /// In a way that is not decoded.
    Unknown,
}

impl Coding {
    /// The quirk that it is in a response to a request that asked for none.
    #[must_use]
    pub fn quirk(&self) -> Option<Quirk> {
        match self {
            Self::Identity | Self::Unknown => None,
            Self::Mislabelled => Some(Quirk::WrongLabel),
            Self::Gzip | Self::Deflate => Some(Quirk::UnaskedCoding),
        }
    }
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
        Some(_) => Coding::Unknown,
    };
    if applied.next().is_some() { Coding::Unknown } else { coding }
}

/// The most that one step decompresses to, but for what the decoder itself holds: some ten thousand bytes.
pub const STEP_BYTES: usize = 64 << 10;
/// Bytes of a stream around each message, at most: names of fields, ids, and ends of lines.
const AROUND_MESSAGE: usize = 256;

/// Decompresses a body while it is read, step by step: however well it was compressed, no step takes long, and what comes to
/// no message is bounded.
pub struct Inflater {
    state: State,
    /// What came and is still to be decompressed.
    input: Bytes,
    has_ended: bool,
    /// Bytes that it decompressed to since, as far as is known, they are part of a message.
    unused: usize,
    /// The most that a message has.
    limit: usize,
}

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
    /// An inflater for messages of `limit` bytes; `None` for what is not compressed, or in a way that is not decoded.
    #[must_use]
    pub fn new(coding: &Coding, limit: usize) -> Option<Self> {
        let gzip = match coding {
            Coding::Gzip => true,
            Coding::Deflate => false,
            Coding::Identity | Coding::Mislabelled | Coding::Unknown => return None,
        };
        let state = State::New { gzip };
        Some(Self { state, input: Bytes::new(), has_ended: false, unused: 0, limit })
    }

    /// Takes the next chunk of the body, once [`Self::step`] has returned `None`.
    pub fn feed(&mut self, chunk: Bytes) {
        if let (State::New { gzip }, Some(first)) = (&self.state, chunk.first()) {
            self.state = State::Running(decoder(*gzip, *first));
        }
        self.input = chunk;
    }

    /// The body has ended. What is still to come are the last steps.
    pub fn end(&mut self) {
        self.has_ended = true;
    }

    /// What the next part of the body decompresses to, about [`STEP_BYTES`] at most; `None` when there is nothing more until
    /// the next chunk, or for good. All that has come is given out: events are not held back.
    ///
    /// # Errors
    /// When it is broken or, with gzip, its end is missing or does not fit; when it came to twice the limit without a
    /// message. From then on always.
    pub fn step(&mut self) -> Result<Option<Bytes>, InflateError> {
        let decoder = match &mut self.state {
            State::Running(decoder) => decoder,
            State::Failed(error) => return Err(*error),
            State::New { .. } | State::Finished => return Ok(None),
        };
        let is_last = self.input.is_empty();
        let ran = match (is_last, self.has_ended) {
            (false, _) => run(&mut **decoder, &mut self.input).map_err(|_| InflateError::Malformed),
            (true, true) => decoder.end().map_err(|_| InflateError::CutOff),
            (true, false) => return Ok(None),
        };
        let out = decoder.out().split().freeze();
        self.unused = self.unused.saturating_add(out.len());
        let limit = self.limit;
        let bounded =
            if self.unused > limit.saturating_mul(2) { Err(InflateError::TooLarge { limit }) } else { ran };
        match bounded {
            Err(error) => self.state = State::Failed(error),
            Ok(()) if is_last => self.state = State::Finished,
            Ok(()) => {}
        }
        bounded.map(|()| Some(out))
    }

    /// A message of so many bytes was among what it decompressed to.
    pub fn message_taken(&mut self, bytes: usize) {
        self.unused = self.unused.saturating_sub(bytes.saturating_add(AROUND_MESSAGE));
    }
}

/// Decompresses some of `input`. Each write of the decoder takes as much as fills its buffer once.
fn run(decoder: &mut (dyn Decode + Send), input: &mut Bytes) -> io::Result<()> {
    while !input.is_empty() && decoder.out().len() < STEP_BYTES {
        let taken = decoder.write(input)?;
        if taken == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let _taken = input.split_to(taken);
    }
    if input.is_empty() { decoder.flush() } else { Ok(()) }
}

/// The decoder of a body that begins with `first`. Raw deflate never begins as the frame of zlib does, with the number of
/// its method in the low half of the first byte (RFC 1950 §2.2): compressors do not write stored blocks with odd padding.
fn decoder(gzip: bool, first: u8) -> Box<dyn Decode + Send> {
    match (gzip, first & 0x0f) {
        (true, _) => Box::new(MultiGzDecoder::new(sink())),
        (false, 8) => Box::new(ZlibDecoder::new(sink())),
        (false, _) => Box::new(DeflateDecoder::new(sink())),
    }
}

/// What the decoders of the codings have in common.
trait Decode: Write {
    /// What came out.
    fn out(&mut self) -> &mut BytesMut;
    fn end(&mut self) -> io::Result<()>;
}

macro_rules! decode {
    ($($decoder:ident)+) => {$(
        impl Decode for $decoder<Sink> {
            fn out(&mut self) -> &mut BytesMut {
                self.get_mut().get_mut()
            }

            fn end(&mut self) -> io::Result<()> {
                self.try_finish()
            }
        }
    )+};
}

decode! { MultiGzDecoder ZlibDecoder DeflateDecoder }

/// Takes what is decompressed.
type Sink = Writer<BytesMut>;

fn sink() -> Sink {
    BytesMut::new().writer()
}
