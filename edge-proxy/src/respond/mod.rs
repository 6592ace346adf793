//! And back: what the stages made becomes an HTTP answer. It must not know how it was made.

mod failure;

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
pub use failure::failure;
use futures_util::{Stream, StreamExt as _, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use mcp::header::SESSION_ID;
use mcp::sse::{self, KEEP_ALIVE};

use crate::active_calls::CallStream;
use crate::transport::{Body, Chunks};
use crate::worker::Worker;

const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What is answered.
pub enum Reply {
    /// Nothing but that it was taken.
    Accepted,
    /// That it is done, with nothing to say.
    Done,
    /// One message, in parts that follow on each other.
    Json {
        /// The status.
        status: StatusCode,
        /// The message.
        parts: VecDeque<Bytes>,
        /// A session that begins with it.
        session: Option<HeaderValue>,
    },
    /// The stream of a call.
    Events(Box<CallStream>),
    /// A stream of our own.
    Stream(Sayings),
}

/// What is said on a stream of our own.
pub type Sayings = Pin<Box<dyn Stream<Item = Said>>>;

/// One thing that is said there.
#[derive(Debug)]
pub enum Said {
    /// A message.
    Message(Bytes),
    /// What only keeps a stream of events going, as it is written there.
    Filler(&'static [u8]),
}

impl Reply {
    /// One message, answered 200.
    pub fn json(parts: impl IntoIterator<Item = Bytes>) -> Self {
        Self::Json { status: StatusCode::OK, parts: parts.into_iter().collect(), session: None }
    }

    /// How many bytes there are, as far as they are there.
    pub fn length(&self) -> usize {
        match self {
            Self::Json { parts, .. } => parts.iter().map(Bytes::len).sum(),
            _ => 0,
        }
    }

    /// The answer.
    pub fn into_response(self, worker: &Rc<Worker>) -> Response<Body> {
        match self {
            Self::Accepted => empty(StatusCode::ACCEPTED),
            Self::Done => empty(StatusCode::OK),
            Self::Json { status, parts, session } => json(status, parts, session),
            Self::Events(events) => events_stream(call_stream(worker, events)),
            Self::Stream(sayings) => events_stream(Box::pin(sayings.map(Said::into_event))),
        }
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn json(status: StatusCode, mut parts: VecDeque<Bytes>, session: Option<HeaderValue>) -> Response<Body> {
    let single = parts.len() == 1;
    let body = if single { Body::Full(parts.pop_front()) } else { Body::Parts(parts) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(mcp::header::JSON));
    if let Some(session) = session {
        response.headers_mut().insert(SESSION_ID, session);
    }
    response
}

impl Said {
    fn into_event(self) -> Bytes {
        match self {
            Self::Message(message) => sse::encode_data(&message),
            Self::Filler(filler) => Bytes::from_static(filler),
        }
    }
}

/// The parts of a message as one.
pub fn joined(mut parts: VecDeque<Bytes>) -> Bytes {
    let single = if parts.len() == 1 { parts.pop_front() } else { None };
    single.unwrap_or_else(|| parts.make_contiguous().concat().into())
}

/// An answer that is a stream of events.
pub fn events_stream(chunks: Chunks) -> Response<Body> {
    let mut response = Response::new(Body::Stream(chunks));
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(mcp::header::EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
    response
}

/// A call's events, and comments where there is none for long.
fn call_stream(worker: &Rc<Worker>, events: Box<CallStream>) -> Chunks {
    let silence = worker.shared.limits.keep_alive;
    let counted = worker.shared.metrics.streams.enter();
    Box::pin(stream::unfold((events, counted), move |(mut events, counted)| async move {
        let next = match tokio::time::timeout(silence, events.next()).await {
            Ok(event) => event?,
            Err(_) => Bytes::from_static(KEEP_ALIVE),
        };
        Some((next, (events, counted)))
    }))
}
