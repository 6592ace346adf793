//! The rest of a body that nobody wants. A client that is still writing does not read the response yet: over HTTP/2 some throw it
//! away when they are told to stop writing, and over HTTP/1 they find the connection closed. So the rest is read for a while, and
//! nothing of it kept.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

/// The time for the rest of a body.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time without a byte of it. Clients that ask whether to go on do so after a second at the latest (`curl`).
const SILENCE: Duration = Duration::from_secs(2);
/// The bytes of the rest of a body.
const MAX_BYTES: usize = 16 << 20;

/// Reads on for a while without keeping anything. Returns whether the body has ended.
pub async fn linger<B: Body + Unpin>(body: &mut B) -> bool {
    let rest = async {
        let mut left = MAX_BYTES;
        loop {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
            let Some(frame) = tokio::time::timeout(SILENCE, frame).await.ok()? else { return Some(()) };
            let length = frame.ok()?.data_ref().map_or(0, Buf::remaining);
            left = left.checked_sub(length)?;
        }
    };
    // A client that takes longer is cut off.
    matches!(tokio::time::timeout(PATIENCE, rest).await, Ok(Some(())))
}

/// A body that comes back to its lender when it is dropped before its end.
#[derive(Debug)]
pub struct LentBody<B> {
    body: Option<B>,
    lender: Option<oneshot::Sender<B>>,
}

impl<B: Body> LentBody<B> {
    /// Lends a body. The receiver has it when it has come back, and nothing while it is out or where it has ended.
    pub fn new(body: B) -> (Self, oneshot::Receiver<B>) {
        let (lender, back) = oneshot::channel();
        (Self { body: Some(body), lender: Some(lender) }, back)
    }
}

impl<B: Body + Unpin> Body for LentBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B> Drop for LentBody<B> {
    fn drop(&mut self) {
        if let (Some(body), Some(lender)) = (self.body.take(), self.lender.take()) {
            // The lender may have gone.
            drop(lender.send(body));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    fn frames(count: usize, size: usize) -> impl Body<Data = Bytes, Error = std::io::Error> + Unpin {
        let frame = Bytes::from(vec![b'a'; size]);
        let frames = std::iter::repeat_n(frame, count).map(|frame| Ok(Frame::data(frame)));
        StreamBody::new(futures_util::stream::iter(frames))
    }

    #[tokio::test]
    async fn what_is_not_endless_is_read_to_its_end() {
        assert!(linger(&mut frames(16, 1 << 20)).await);
        assert!(!linger(&mut frames(17, 1 << 20)).await, "too much");
        let mut broken = StreamBody::new(futures_util::stream::iter([Err::<Frame<Bytes>, _>(
            std::io::Error::other("broken"),
        )]));
        assert!(!linger(&mut broken).await, "broken");
    }

    #[tokio::test(start_paused = true)]
    async fn who_writes_no_more_is_cut_off() {
        let stream = futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
        assert!(!linger(&mut StreamBody::new(stream)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_writes_slowly_is_heard_for_a_while() {
        let after_a_second = |count| {
            let frames = futures_util::stream::unfold(0, move |at| async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let frame = Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"a")));
                (at < count).then_some((frame, at + 1))
            });
            StreamBody::new(Box::pin(frames))
        };
        assert!(linger(&mut after_a_second(5)).await);
        let started = tokio::time::Instant::now();
        assert!(!linger(&mut after_a_second(1_000)).await);
        assert!((PATIENCE..PATIENCE + SILENCE).contains(&started.elapsed()));
    }

    #[tokio::test]
    async fn a_body_comes_back_unless_it_was_read() {
        let (lent, mut back) = LentBody::new(Full::new(Bytes::from_static(b"all")));
        assert_eq!(lent.collect().await.unwrap().to_bytes(), "all");
        assert!(back.try_recv().is_err(), "it was read to its end");
        let (lent, mut back) = LentBody::new(Full::new(Bytes::from_static(b"all")));
        assert!(back.try_recv().is_err(), "it is out");
        drop(lent);
        assert_eq!(back.try_recv().unwrap().collect().await.unwrap().to_bytes(), "all");
    }
}
