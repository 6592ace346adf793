//! Replies of the pipeline as HTTP responses. It must not know how they were made.

mod failure;

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
pub use failure::{failure, offer_basic};
use futures_util::{Stream, StreamExt as _, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use mcp::header::SESSION_ID;
use mcp::sse::{self, KEEP_ALIVE};

use crate::context::{CallStream, WorkerState};
use crate::limits::LimitsLeft;
use crate::transport::{Body, Chunks};

const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The reply to a request or a message.
pub enum Reply {
    /// The message was accepted; there is nothing to answer.
    Accepted,
    /// The request is done; there is nothing to answer.
    Done,
    /// One message, in parts that follow on each other.
    Json {
        /// The HTTP status.
        status: StatusCode,
        /// The parts of the message.
        parts: VecDeque<Bytes>,
        /// The id of a session that begins with it.
        session: Option<HeaderValue>,
    },
    /// The stream of a call.
    Events(Box<CallStream>),
    /// A stream of notifications by the edge itself.
    Stream(StreamItems),
}

/// The items of a stream by the edge itself.
pub type StreamItems = Pin<Box<dyn Stream<Item = StreamItem>>>;

/// An item of such a stream.
#[derive(Debug)]
pub enum StreamItem {
    /// A message.
    Message(Bytes),
    /// Raw bytes that only keep a stream of events open.
    KeepAlive(&'static [u8]),
}

impl Reply {
    /// Makes a reply of one message, answered 200.
    pub fn json(parts: impl IntoIterator<Item = Bytes>) -> Self {
        Self::Json { status: StatusCode::OK, parts: parts.into_iter().collect(), session: None }
    }

    /// Counts the bytes that are there already.
    pub fn length(&self) -> usize {
        match self {
            Self::Json { parts, .. } => parts.iter().map(Bytes::len).sum(),
            _ => 0,
        }
    }

    /// Makes the HTTP response.
    pub fn into_response(self, worker: &Rc<WorkerState>) -> Response<Body> {
        match self {
            Self::Accepted => empty(StatusCode::ACCEPTED),
            Self::Done => empty(StatusCode::OK),
            Self::Json { status, parts, session } => json(status, parts, session),
            Self::Events(events) => events_stream(call_stream(worker, events)),
            Self::Stream(sayings) => events_stream(Box::pin(sayings.map(StreamItem::into_event))),
        }
    }
}

/// Adds what is left of the limits that the request was counted in, if it was.
pub fn with_limits(mut response: Response<Body>, limits: &LimitsLeft) -> Response<Body> {
    for (name, text) in [(RATE_LIMIT, &limits.left), (RATE_LIMIT_POLICY, &limits.policy)] {
        if let Some(value) = HeaderValue::from_str(text).ok().filter(|value| !value.is_empty()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
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

impl StreamItem {
    fn into_event(self) -> Bytes {
        match self {
            Self::Message(message) => sse::encode_data(&message),
            Self::KeepAlive(filler) => Bytes::from_static(filler),
        }
    }
}

/// Joins the parts of a message.
pub fn joined(mut parts: VecDeque<Bytes>) -> Bytes {
    let single = if parts.len() == 1 { parts.pop_front() } else { None };
    single.unwrap_or_else(|| parts.make_contiguous().concat().into())
}

/// Makes a response that is a stream of events.
pub fn events_stream(chunks: Chunks) -> Response<Body> {
    let mut response = Response::new(Body::Stream(chunks));
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(mcp::header::EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
    response
}

/// Streams a call's events, with comments in long silences.
fn call_stream(worker: &Rc<WorkerState>, events: Box<CallStream>) -> Chunks {
    let silence = worker.shared.environment.limits.keep_alive;
    Box::pin(stream::unfold(events, move |mut events| async move {
        let next = match tokio::time::timeout(silence, events.next()).await {
            Ok(event) => event?,
            Err(_) => Bytes::from_static(KEEP_ALIVE),
        };
        Some((next, events))
    }))
}
