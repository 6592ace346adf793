//! Skips frames of a WebSocket that are too large, which its protocol allows and the library does not: their bytes are dropped
//! as they come, and a pong stands in their place. A message of several frames that is too large as a whole is left to the library.
//!
//! It must not know what frames say.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use mcp::sse::Ends;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A pong that nobody asked for, which means nothing.
const PONG: [u8; 2] = [0x8a, 0];
/// The opcodes of control frames have this bit.
const CONTROL: u8 = 0x08;

/// What is left of the frames that were skipped.
#[derive(Clone, Default)]
pub(super) struct SkippedFrames(Rc<RefCell<VecDeque<Ends>>>);

impl SkippedFrames {
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Takes what is left of the first.
    pub(super) fn take(&self) -> Option<Ends> {
        self.0.borrow_mut().pop_front()
    }
}

/// A stream of frames, without those that are too large.
pub(super) struct BoundedFrames<S> {
    stream: S,
    filter: Filter,
}

/// Takes frames out of the bytes that come.
struct Filter {
    max_frame: u64,
    place: Place,
    /// The start of a frame's header, whose end has not come yet.
    header: Vec<u8>,
    /// Whether a frame was skipped in whose place nothing stands yet.
    owes_pong: bool,
    skipped: SkippedFrames,
}

/// Where the next byte is.
enum Place {
    Header,
    /// In a frame that is read, with so many bytes to come.
    Payload(u64),
    /// In one that is skipped.
    Skipped(u64, Ends),
}

impl<S> BoundedFrames<S> {
    /// Skips the frames of a stream that have more bytes than `max_frame`.
    pub(super) fn new(stream: S, max_frame: usize, skipped: &SkippedFrames) -> Self {
        Self { stream, filter: Filter::new(max_frame, skipped) }
    }
}

impl Filter {
    fn new(max_frame: usize, skipped: &SkippedFrames) -> Self {
        let max_frame = u64::try_from(max_frame).unwrap_or(u64::MAX);
        let skipped = skipped.clone();
        Self { max_frame, place: Place::Header, header: Vec::new(), owes_pong: false, skipped }
    }

    /// Whether a pong may stand here, and is due.
    fn take_pong(&mut self) -> bool {
        matches!(self.place, Place::Header) && std::mem::take(&mut self.owes_pong)
    }

    /// Moves what is read of these bytes to their start; returns its length. A header that is not whole is held back.
    fn pass(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            let rest = &bytes[at..];
            let passed = match &mut self.place {
                Place::Header => match self.begin(rest) {
                    Begun::Passed(length) => length,
                    Begun::Skipped(length) => {
                        at += length;
                        continue;
                    }
                    Begun::Unfinished => {
                        self.header.extend_from_slice(rest);
                        return kept;
                    }
                },
                Place::Payload(left) => {
                    let length = part(rest, *left);
                    *left -= length as u64;
                    length
                }
                Place::Skipped(left, ends) => {
                    let length = part(rest, *left);
                    *left -= length as u64;
                    ends.add(&rest[..length]);
                    at += length;
                    self.end();
                    continue;
                }
            };
            if at != kept {
                bytes.copy_within(at..at + passed, kept);
            }
            (at, kept) = (at + passed, kept + passed);
            self.end();
        }
        kept
    }

    /// Begins the frame with the header at the start of these bytes.
    fn begin(&mut self, bytes: &[u8]) -> Begun {
        let Some((header, payload)) = measure(bytes) else { return Begun::Unfinished };
        if bytes[0] & CONTROL == 0 && payload > self.max_frame {
            self.place = Place::Skipped(payload, Ends::default());
            return Begun::Skipped(header);
        }
        self.place = Place::Payload(payload);
        Begun::Passed(header)
    }

    /// Goes on to the next frame, where this one is over.
    fn end(&mut self) {
        match &mut self.place {
            Place::Payload(0) => self.place = Place::Header,
            Place::Skipped(0, ends) => {
                self.skipped.0.borrow_mut().push_back(std::mem::take(ends));
                (self.place, self.owes_pong) = (Place::Header, true);
            }
            Place::Header | Place::Payload(_) | Place::Skipped(..) => {}
        }
    }
}

/// What became of a frame that begins; of those that did, the length of the header.
enum Begun {
    Passed(usize),
    Skipped(usize),
    Unfinished,
}

/// How many of these bytes belong to a frame with so many to come.
fn part(bytes: &[u8], left: u64) -> usize {
    usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
}

/// The lengths of the header at the start of these bytes and of the payload after it (RFC 6455 section 5.2); `None` where the
/// header is not whole.
fn measure(bytes: &[u8]) -> Option<(usize, u64)> {
    let second = *bytes.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (length, payload) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    (bytes.len() >= length + mask).then_some((length + mask, payload))
}

impl<S: AsyncRead + Unpin> AsyncRead for BoundedFrames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, filter } = &mut *self;
        if filter.take_pong() {
            buffer.put_slice(&PONG);
            return Poll::Ready(Ok(()));
        }
        loop {
            let start = buffer.filled().len();
            if buffer.remaining() <= filter.header.len() {
                return Poll::Ready(Err(io::Error::other("no room for the header of a frame")));
            }
            buffer.put_slice(&filter.header);
            let held = buffer.filled().len();
            let came = Pin::new(&mut *stream).poll_read(context, buffer);
            if !matches!(came, Poll::Ready(Ok(()))) {
                buffer.set_filled(start);
            }
            ready!(came)?;
            filter.header.clear();
            if buffer.filled().len() == held {
                // The end.
                return Poll::Ready(Ok(()));
            }
            let kept = filter.pass(&mut buffer.filled_mut()[start..]);
            buffer.set_filled(start + kept);
            if kept == 0 && filter.take_pong() {
                buffer.put_slice(&PONG);
            }
            if buffer.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BoundedFrames<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 200;

    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            short @ 0..126 => frame.push(u8::try_from(short).unwrap()),
            middle @ 126..65_536 => {
                frame.push(126);
                frame.extend(u16::try_from(middle).unwrap().to_be_bytes());
            }
            long => {
                frame.push(127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        [frame.as_slice(), payload].concat()
    }

    /// What passes, as a reader of that much at a time gets it.
    fn passed(bytes: &[u8], chunk: usize) -> (Vec<u8>, SkippedFrames) {
        let skipped = SkippedFrames::default();
        let mut filter = Filter::new(MAX, &skipped);
        let mut out = Vec::new();
        for chunk in bytes.chunks(chunk) {
            let mut came = std::mem::take(&mut filter.header);
            came.extend_from_slice(chunk);
            let kept = filter.pass(&mut came);
            out.extend_from_slice(&came[..kept]);
        }
        (out, skipped)
    }

    proptest! {
        #[test]
        fn what_is_too_large_is_left_out_and_nothing_else(
            frames in proptest::collection::vec((1_u8..3, prop_oneof![0_usize..300, Just(70_000)], any::<u8>()), 0..8),
            chunk in 1_usize..5_000,
        ) {
            let frames = frames.iter().map(|(opcode, length, byte)| (*opcode, vec![*byte; *length]));
            let frames: Vec<(u8, Vec<u8>)> = frames.collect();
            let encode = |frames: &[&(u8, Vec<u8>)]| -> Vec<u8> {
                frames.iter().flat_map(|(opcode, payload)| frame(*opcode, payload)).collect()
            };
            let (large, small): (Vec<_>, Vec<_>) = frames.iter().partition(|(_, payload)| payload.len() > MAX);
            let (out, skipped) = passed(&encode(&frames.iter().collect::<Vec<_>>()), chunk);
            prop_assert_eq!(out, encode(&small));
            for (_, payload) in large {
                let mut ends = Ends::default();
                ends.add(payload);
                prop_assert_eq!(skipped.take(), Some(ends));
            }
            prop_assert!(skipped.is_empty());
        }

        #[test]
        fn junk_does_not_panic(bytes: Vec<u8>, chunk in 1_usize..9) {
            let (out, _) = passed(&bytes, chunk);
            prop_assert!(out.len() <= bytes.len());
        }
    }

    #[test]
    fn a_control_frame_passes_whatever_it_says() {
        let large = frame(9, &[7; 300]);
        assert_eq!(passed(&large, 11).0, large);
    }
}
