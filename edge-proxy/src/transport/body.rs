//! Bodies of responses: nothing, a few chunks, or a stream of them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Frame, SizeHint};

/// A stream of chunks.
pub type Chunks = Pin<Box<dyn Stream<Item = Bytes>>>;

/// The body of a response.
pub enum Body {
    /// One chunk, or none.
    Full(Option<Bytes>),
    /// Several chunks, written without being joined.
    Parts(VecDeque<Bytes>),
    /// A stream of chunks.
    Stream(Chunks),
}

impl Body {
    /// Creates an empty body.
    pub fn empty() -> Self {
        Self::Full(None)
    }

    /// Creates a body of one chunk.
    pub fn full(bytes: Bytes) -> Self {
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }

    /// Creates a body of several chunks.
    pub fn parts(parts: impl IntoIterator<Item = Bytes>) -> Self {
        Self::Parts(parts.into_iter().filter(|part| !part.is_empty()).collect())
    }

    /// Counts the bytes; `None` for a stream.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Full(bytes) => Some(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Parts(parts) => Some(parts.iter().map(|part| part.len() as u64).sum()),
            Self::Stream(_) => None,
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Body").field(&self.length()).finish()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = |bytes: Option<Bytes>| bytes.map(|bytes| Ok(Frame::data(bytes)));
        match &mut *self {
            Self::Full(bytes) => Poll::Ready(frame(bytes.take())),
            Self::Parts(parts) => Poll::Ready(frame(parts.pop_front())),
            Self::Stream(stream) => stream.as_mut().poll_next(cx).map(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.length() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
