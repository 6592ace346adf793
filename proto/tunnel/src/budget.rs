//! Bounds what a far side sends besides payload, and how long it keeps others from their turn. It must not know what
//! streams carry.
//!
//! Each frame, of HTTP/2 or of the WebSocket, costs; payload, sent or received, and time earn. Whoever carries
//! connections of HTTP never gets into debt, and a flood of pings, settings or empty frames does at once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

/// The cost of a frame besides its length, in bytes of payload that earn it.
const FRAME_COST: usize = 32;
/// Frames without payload that a tunnel may send at once.
const MAX_AT_ONCE: usize = 4_096;
/// Frames without payload that a tunnel may send each second.
const MAX_EACH_SECOND: usize = 1_024;
/// The most credit that is saved, in bytes.
const MAX_CREDIT: usize = MAX_AT_ONCE * FRAME_COST;
/// Bytes that are read before other tasks get their turn; a message counts as [`MESSAGE_TURN`] more.
const TURN: usize = 64 << 10;
const MESSAGE_TURN: usize = 4 << 10;
/// The largest payload that a frame is charged for: HTTP/2 refuses larger ones, and says so (RFC 9113 §4.2).
const MAX_PAYLOAD: usize = 16 << 10;
/// Bytes that are checked, and passed on, at a time.
const PIECE: usize = 16 << 10;

/// The messages of a far side, as long as its credit lasts. An error of the kind `QuotaExceeded` says that it was used up.
pub(crate) struct Budgeted<S> {
    source: S,
    /// The part of the last message that was not passed on yet.
    rest: Bytes,
    frames: Frames,
    credit: Credit,
    /// Bytes left of this turn.
    turn: usize,
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Budgeted<S> {
    /// Bounds `source`; whoever sends adds the bytes to `sent`.
    pub(crate) fn new(source: S, sent: Arc<AtomicUsize>) -> Self {
        Self { source, rest: Bytes::new(), frames: Frames::default(), credit: Credit::new(sent), turn: TURN }
    }

    fn admit(&mut self, piece: &[u8]) -> io::Result<()> {
        let Self { frames, credit, .. } = self;
        frames.read(piece, |frame| match frame {
            Frame::Data(length) => {
                credit.earn(length);
                credit.charge(FRAME_COST)
            }
            Frame::Other(length) => credit.charge(FRAME_COST + length.min(MAX_PAYLOAD)),
        })
    }
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Stream for Budgeted<S> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.turn == 0 {
            this.turn = TURN;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.rest.is_empty() {
            this.rest = match this.source.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Pending => {
                    this.turn = TURN;
                    return Poll::Pending;
                }
                ended => return ended,
            };
            this.turn = this.turn.saturating_sub(MESSAGE_TURN);
            if let Err(error) = this.credit.charge(FRAME_COST) {
                return Poll::Ready(Some(Err(error)));
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        this.turn = this.turn.saturating_sub(piece.len());
        Poll::Ready(Some(this.admit(&piece).map(|()| piece)))
    }
}

/// The credit of a far side, in bytes.
struct Credit {
    left: usize,
    /// Bytes that were sent to it since they were last added.
    sent: Arc<AtomicUsize>,
    /// When time last earned.
    since: Instant,
}

impl Credit {
    fn new(sent: Arc<AtomicUsize>) -> Self {
        Self { left: MAX_CREDIT, sent, since: Instant::now() }
    }

    fn earn(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(bytes).min(MAX_CREDIT);
    }

    fn charge(&mut self, cost: usize) -> io::Result<()> {
        if self.left < cost {
            self.collect();
        }
        self.left = self.left.checked_sub(cost).ok_or_else(spent)?;
        Ok(())
    }

    /// Adds what was sent and the time that went by: nobody looks at a clock before the credit is used up.
    fn collect(&mut self) {
        let now = Instant::now();
        let waited = (now - std::mem::replace(&mut self.since, now)).as_micros();
        let earned = waited.saturating_mul((MAX_EACH_SECOND * FRAME_COST) as u128) / 1_000_000;
        self.earn(usize::try_from(earned).unwrap_or(MAX_CREDIT));
        self.earn(self.sent.swap(0, Ordering::Relaxed));
    }
}

#[cold]
fn spent() -> io::Error {
    io::Error::new(
        io::ErrorKind::QuotaExceeded,
        format!(
            "the other side sent too many frames without data: more than {MAX_AT_ONCE} at once or {MAX_EACH_SECOND} each second"
        ),
    )
}

/// A frame of HTTP/2 with the length of its payload (RFC 9113 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// DATA.
    Data(usize),
    /// Every other type.
    Other(usize),
}

const HEAD: usize = 9;
/// The type of DATA (RFC 9113 §6.1).
const DATA: u8 = 0;
/// What a client sends before its first frame (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Finds the frames in a run of bytes that arrives in pieces.
#[derive(Default)]
struct Frames {
    head: [u8; HEAD],
    /// Bytes of `head` that have arrived.
    filled: usize,
    /// Bytes of a payload that are to come.
    payload: usize,
}

impl Frames {
    fn read(&mut self, mut bytes: &[u8], mut visit: impl FnMut(Frame) -> io::Result<()>) -> io::Result<()> {
        loop {
            let passed = self.payload.min(bytes.len());
            self.payload -= passed;
            bytes = &bytes[passed..];
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = (HEAD - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD {
                self.filled = 0;
                visit(self.begin())?;
            }
        }
    }

    /// Begins the payload after a whole head. The preface counts as a frame.
    fn begin(&mut self) -> Frame {
        if PREFACE.starts_with(&self.head) {
            self.payload = PREFACE.len() - HEAD;
            return Frame::Other(self.payload);
        }
        let [a, b, c, kind, ..] = self.head;
        self.payload = u32::from_be_bytes([0, a, b, c]) as usize;
        if kind == DATA { Frame::Data(self.payload) } else { Frame::Other(self.payload) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = [&length[1..], &[kind, 0, 0, 0, 0, 1]].concat();
        bytes.resize(HEAD + payload, 0);
        bytes
    }

    fn budgeted(
        messages: Vec<Vec<u8>>,
        sent: usize,
    ) -> Budgeted<impl Stream<Item = io::Result<Bytes>> + Unpin> {
        let messages = messages.into_iter().map(|message| Ok(Bytes::from(message)));
        Budgeted::new(futures_util::stream::iter(messages), Arc::new(AtomicUsize::new(sent)))
    }

    /// Passes on all messages; returns the bytes, the error, and how often others had their turn.
    fn drain(messages: Vec<Vec<u8>>, sent: usize) -> (usize, Option<io::Error>, usize) {
        let mut bounded = budgeted(messages, sent);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut bytes, mut turns) = (0, 0);
        loop {
            match bounded.poll_next_unpin(&mut cx) {
                Poll::Ready(Some(Ok(piece))) => bytes += piece.len(),
                Poll::Ready(Some(Err(error))) => return (bytes, Some(error), turns),
                Poll::Ready(None) => return (bytes, None, turns),
                Poll::Pending => turns += 1,
            }
        }
    }

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;

    #[test]
    fn a_flood_without_data_ends_the_tunnel_whatever_it_is_made_of() {
        let (count, empty) = (20 * MAX_AT_ONCE, Vec::new());
        let floods = [
            vec![frame(PING, 8).repeat(count)],
            vec![frame(SETTINGS, 0).repeat(count)],
            vec![frame(0x77, 0).repeat(count)],
            vec![frame(DATA, 0).repeat(count)],
            vec![frame(DATA, 1).repeat(count)],
            vec![frame(PING, 8); count],
            vec![empty; count],
        ];
        for (number, flood) in floods.into_iter().enumerate() {
            let (_, error, _) = drain(flood, 0);
            let error = error.unwrap_or_else(|| panic!("flood {number} was let through"));
            assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded, "flood {number}");
            assert_eq!(
                error.to_string(),
                "the other side sent too many frames without data: more than 4096 at once or 1024 each second"
            );
        }
    }

    #[test]
    fn what_is_answered_with_data_goes_on() {
        // Windows opened for each 16 KiB that were received, and small events.
        let event = [frame(DATA, 150), frame(8, 4)].concat();
        assert!(drain(vec![event; 50 * MAX_AT_ONCE], 0).1.is_none());
        let windows = frame(8, 4).repeat(MAX_AT_ONCE / 2);
        assert!(drain(vec![windows.clone(); 20], 0).1.is_some());
        assert!(drain(vec![windows; 2], MAX_AT_ONCE * (16 << 10)).1.is_none());
    }

    #[test]
    fn others_have_their_turn_within_a_message_and_between_small_ones() {
        let whole = frame(DATA, (1 << 20) - HEAD);
        let (bytes, error, turns) = drain(vec![whole], 0);
        assert!(error.is_none());
        assert_eq!(bytes, 1 << 20);
        assert!(turns >= (1 << 20) / TURN - 1, "{turns}");
        let (_, error, turns) = drain(vec![Vec::new(); MAX_AT_ONCE], 0);
        assert!(error.is_none());
        assert!(turns >= MAX_AT_ONCE * MESSAGE_TURN / TURN - 1, "{turns}");
    }

    proptest! {
        /// However they are cut, the same frames are found, and the bytes are passed on as they are.
        #[test]
        fn cuts_change_nothing(
            preface: bool,
            frames in prop::collection::vec((0u8..10, 0usize..600), 1..40),
            cut in 1usize..700,
        ) {
            let mut bytes = if preface { PREFACE.to_vec() } else { Vec::new() };
            let mut expected: Vec<_> = preface.then_some(Frame::Other(PREFACE.len() - HEAD)).into_iter().collect();
            for (kind, length) in frames {
                bytes.extend(frame(kind, length));
                expected.push(if kind == DATA { Frame::Data(length) } else { Frame::Other(length) });
            }
            let (mut reader, mut found) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(cut) {
                reader.read(piece, |frame| { found.push(frame); Ok(()) }).unwrap();
            }
            prop_assert_eq!(found, expected);
            let messages: Vec<_> = bytes.chunks(cut).map(<[u8]>::to_vec).collect();
            // A message for every few bytes is a flood.
            prop_assert!(cut < 64 || drain(messages, 0).0 == bytes.len());
        }
    }
}
