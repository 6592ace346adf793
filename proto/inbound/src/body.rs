//! A request body within its bounds of size, time and memory, whatever is in it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::body_budget::{OverBudget, Reservation};

/// The head of a gRPC message: a flag for compression, and the length (gRPC over HTTP/2, "Requests").
const GRPC_HEAD: usize = 5;

/// The time for which a body that is refused is read on.
const LINGER: Duration = Duration::from_secs(2);

/// What the bounds of a body are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The whole of it.
    Whole,
    /// Each of the gRPC messages in it. Between two messages there may be any time.
    GrpcMessages,
}

/// The bounds of a body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// What they are for.
    pub framing: Framing,
    /// Maximum size, in bytes.
    pub max_bytes: usize,
    /// The time from the first byte to the last; of a whole body, from now.
    pub timeout: Duration,
}

/// The reason that a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is too large.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// It did not arrive in time.
    #[error("the body did not arrive in time")]
    Timeout,
    /// There is no memory for it now.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// It broke off.
    #[error("the body was interrupted: {0}")]
    Interrupted(Box<dyn std::error::Error + Send + Sync>),
}

/// A body that ends with an error where it passes a bound. One that is too large is read on for a while before, at most
/// as much again, and nothing of it is kept: a client that is still writing does not read the response yet, and closing
/// the connection would discard it.
#[derive(Debug)]
pub struct BoundedBody<B> {
    body: B,
    limits: BodyLimits,
    reservation: Arc<Reservation>,
    received: usize,
    message: GrpcMessage,
    deadline: Option<Pin<Box<Sleep>>>,
    refused: Option<Refused>,
}

/// The rest of a body that is refused.
#[derive(Debug)]
struct Refused {
    error: BodyError,
    deadline: Pin<Box<Sleep>>,
    left: usize,
}

impl<B: Body<Data = Bytes> + Unpin> BoundedBody<B> {
    /// Puts bounds on `body`. What is read is taken from the budget, until the last owner of `reservation` is gone or,
    /// of [`GrpcMessages`](Framing::GrpcMessages), the message is complete.
    pub fn new(body: B, limits: BodyLimits, reservation: Arc<Reservation>) -> Self {
        let deadline = match limits.framing {
            Framing::Whole if !body.is_end_stream() => Some(Box::pin(tokio::time::sleep(limits.timeout))),
            _ => None,
        };
        let message = GrpcMessage::default();
        Self { body, limits, reservation, received: 0, message, deadline, refused: None }
    }

    fn note(&mut self, data: &[u8]) -> Result<(), BodyError> {
        match self.limits.framing {
            Framing::Whole => {
                self.received = self.received.saturating_add(data.len());
                self.check_size(self.received)?;
                Ok(self.reservation.grow(data.len())?)
            }
            Framing::GrpcMessages => self.note_messages(data),
        }
    }

    fn note_messages(&mut self, data: &[u8]) -> Result<(), BodyError> {
        let progress = self.message.advance(data);
        self.check_size(progress.largest)?;
        if progress.completed {
            self.reservation.clear();
            self.deadline = None;
        }
        self.reservation.grow(progress.partial)?;
        if self.message.is_partial() && self.deadline.is_none() {
            self.deadline = Some(Box::pin(tokio::time::sleep(self.limits.timeout)));
        }
        Ok(())
    }

    fn check_size(&self, bytes: usize) -> Result<(), BodyError> {
        let max_bytes = self.limits.max_bytes;
        if bytes > max_bytes { Err(BodyError::TooLarge(max_bytes)) } else { Ok(()) }
    }
}

impl<B> BoundedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            return match &mut self.deadline {
                Some(deadline) => {
                    ready!(deadline.as_mut().poll(cx));
                    Poll::Ready(Some(Err(BodyError::Timeout)))
                }
                None => Poll::Pending,
            };
        };
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(|error| BodyError::Interrupted(error.into()));
        Poll::Ready(Some(frame.and_then(|frame| {
            frame.data_ref().map_or(Ok(()), |data| self.note(data))?;
            Ok(frame)
        })))
    }

    /// Reads on until the end of a body that is refused, within bounds.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(Refused { deadline, left, .. }) = &mut self.refused else { return Poll::Ready(()) };
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return deadline.as_mut().poll(cx),
                Poll::Ready(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    let Some(less) = left.checked_sub(length) else { return Poll::Ready(()) };
                    *left = less;
                }
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    }
}

impl<B> Body for BoundedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.refused.is_none() {
            let error = match ready!(self.poll_next(cx)) {
                Some(Err(error @ (BodyError::TooLarge(_) | BodyError::OverBudget(_)))) => error,
                other => return Poll::Ready(other),
            };
            let deadline = Box::pin(tokio::time::sleep(LINGER));
            self.refused = Some(Refused { error, deadline, left: self.limits.max_bytes });
        }
        ready!(self.poll_rest(cx));
        Poll::Ready(self.refused.take().map(|refused| Err(refused.error)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How far a stream of gRPC messages has come.
#[derive(Debug, Default)]
struct GrpcMessage {
    head: [u8; GRPC_HEAD],
    head_received: usize,
    remaining: usize,
}

/// What some bytes were to a stream of gRPC messages.
#[derive(Debug, Default, PartialEq, Eq)]
struct Progress {
    /// The announced length of the largest message that began.
    largest: usize,
    /// True if a message was completed.
    completed: bool,
    /// The bytes that belong to a message that is not complete.
    partial: usize,
}

impl GrpcMessage {
    fn is_partial(&self) -> bool {
        self.head_received > 0
    }

    fn advance(&mut self, mut data: &[u8]) -> Progress {
        let mut progress = Progress::default();
        while !data.is_empty() {
            if self.head_received < GRPC_HEAD {
                self.head[self.head_received] = data[0];
                self.head_received += 1;
                data.advance(1);
                progress.partial += 1;
                if self.head_received == GRPC_HEAD {
                    let [_, length @ ..] = self.head;
                    self.remaining = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                    progress.largest = progress.largest.max(self.remaining);
                }
            } else {
                let taken = data.len().min(self.remaining);
                self.remaining -= taken;
                data.advance(taken);
                progress.partial += taken;
            }
            if self.head_received == GRPC_HEAD && self.remaining == 0 {
                self.head_received = 0;
                progress = Progress { completed: true, partial: 0, ..progress };
            }
        }
        progress
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use http_body_util::BodyExt as _;
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;
    use crate::body_budget::BodyBudget;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// A body of chunks, each after a pause.
    struct Slow(VecDeque<(Duration, Bytes)>, Option<Pin<Box<Sleep>>>);

    impl Body for Slow {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some((pause, _)) = self.0.front() else { return Poll::Ready(None) };
            let pause = *pause;
            let sleep = self.1.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            ready!(sleep.as_mut().poll(cx));
            self.1 = None;
            Poll::Ready(self.0.pop_front().map(|(_, chunk)| Ok(Frame::data(chunk))))
        }
    }

    /// Reads a body of chunks, each after a pause in seconds; how it ended, what was taken from the budget until then, and
    /// after how many seconds.
    async fn read(framing: Framing, chunks: &[(u64, &[u8])]) -> (Result<Bytes, String>, usize, u64) {
        let chunks =
            chunks.iter().map(|(pause, chunk)| (Duration::from_secs(*pause), Bytes::copy_from_slice(chunk)));
        let budget = Arc::new(BodyBudget::new(40));
        let limits = BodyLimits { framing, max_bytes: 30, timeout: TIMEOUT };
        let reservation = Arc::new(budget.reservation(0));
        let body = BoundedBody::new(Slow(chunks.collect(), None), limits, Arc::clone(&reservation));
        let started = Instant::now();
        let read = body.collect().await.map(|body| body.to_bytes()).map_err(|error| error.to_string());
        (read, budget.used(), started.elapsed().as_secs())
    }

    fn failed(error: &str, used: usize, after: u64) -> (Result<Bytes, String>, usize, u64) {
        (Err(error.to_owned()), used, after)
    }

    const LATE: &str = "the body did not arrive in time";
    const LARGE: &str = "the body is larger than 30 bytes";
    const OVER: &str = "too much memory is in use for bodies";

    #[tokio::test(start_paused = true)]
    async fn a_whole_body_has_its_size_its_time_and_its_share() {
        let whole = Framing::Whole;
        assert_eq!(read(whole, &[(20, b"ab"), (9, b"c")]).await, (Ok(Bytes::from_static(b"abc")), 3, 29));
        assert_eq!(read(whole, &[(20, b"ab"), (20, b"c")]).await, failed(LATE, 2, 30));
        assert_eq!(read(whole, &[(0, &[b'x'; 16]), (0, &[b'x'; 15])]).await, failed(LARGE, 16, 0));
        // The rest is read, but not for long.
        let rest = [(0, &[b'x'; 31][..]), (1, b"x"), (1, b"x"), (1, b"x")];
        assert_eq!(read(whole, &rest).await, failed(LARGE, 0, 2));
        // Half of 40 is for one caller.
        assert_eq!(read(whole, &[(0, &[b'x'; 16]), (0, &[b'x'; 5])]).await, failed(OVER, 16, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_messages_may_be_silent_between_them_and_not_within_one() {
        let framing = Framing::GrpcMessages;
        let message = b"\0\0\0\0\x0212";
        let (read_all, used, _) =
            read(framing, &[(99, message), (99, message), (99, &[message, &message[..]].concat())]).await;
        assert_eq!((read_all.unwrap().len(), used), (4 * message.len(), 0));
        let (parted, used, after) =
            read(framing, &[(99, &message[..3]), (29, &message[3..]), (99, message)]).await;
        assert_eq!((parted.is_ok(), used, after), (true, 0, 227));
        for cut in 1..message.len() {
            let part = &message[..cut];
            assert_eq!(read(framing, &[(99, part), (31, b"x")]).await, failed(LATE, cut, 129), "{cut}");
            let after_a_message = [message, part].concat();
            assert_eq!(
                read(framing, &[(99, &after_a_message), (31, b"x")]).await,
                failed(LATE, cut, 129),
                "{cut}"
            );
        }
        assert_eq!(read(framing, &[(0, message), (0, b"\0\0\0\0\x1f")]).await, failed(LARGE, 0, 0));
        assert_eq!(read(framing, &[(0, b"\0\0\0\0\x1e"), (0, &[b'x'; 16])]).await, failed(OVER, 5, 0));
    }

    proptest! {
        #[test]
        fn messages_are_told_apart_however_they_are_cut(
            lengths in prop::collection::vec(0usize..40, 1..8),
            cuts in prop::collection::vec(1usize..20, 1..60),
        ) {
            let mut bytes = Vec::new();
            for length in &lengths {
                bytes.extend([0; 4]);
                bytes.push(*length as u8);
                bytes.extend(vec![b'x'; *length]);
            }
            let (mut message, mut at, mut cuts) = (GrpcMessage::default(), 0, cuts.iter().cycle());
            let ends: Vec<usize> =
                lengths.iter().scan(0, |end, length| { *end += GRPC_HEAD + length; Some(*end) }).collect();
            let mut partial = 0;
            while at < bytes.len() {
                let next = (at + cuts.next().unwrap()).min(bytes.len());
                let progress = message.advance(&bytes[at..next]);
                let ended = ends.iter().filter(|end| (at + 1..=next).contains(end)).max();
                prop_assert_eq!(progress.completed, ended.is_some());
                partial = if ended.is_some() { progress.partial } else { partial + progress.partial };
                prop_assert_eq!(partial, next - ends.iter().filter(|end| **end <= next).max().unwrap_or(&0));
                prop_assert_eq!(message.is_partial(), !ends.contains(&next));
                at = next;
            }
        }
    }
}
