//! How an answer goes out: JSON where it is the only message, else Server-Sent Events with keep-alives.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use mcp::sse;
use tokio::sync::mpsc;

use crate::bridge::expose::multiplexer::ClientId;
use crate::bridge::expose::supervised_child::{CallMessage, SupervisedChild};

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Somebody who waits for the answer to a call.
#[derive(Debug)]
pub struct PendingCall {
    /// Where its messages arrive.
    pub items: mpsc::Receiver<CallMessage>,
    /// In the modern era the exchange is the client: when it ends, or is cut off, so does the call.
    pub client: Option<ClientGuard>,
}

/// A client that goes when this is dropped.
#[derive(Debug)]
pub struct ClientGuard {
    /// Who answers.
    pub child: Arc<SupervisedChild>,
    /// The client.
    pub client: ClientId,
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        self.child.remove_client(self.client);
    }
}

/// Which forms the client takes.
#[derive(Debug, Clone, Copy)]
pub struct Accepts {
    /// `application/json`.
    pub json: bool,
    /// `text/event-stream`.
    pub events: bool,
}

impl PendingCall {
    /// The answer, in a form that the client takes. `status` is asked about a first message that is the last.
    pub async fn respond(mut self, accepts: Accepts, status: fn(&[u8]) -> StatusCode) -> Response {
        loop {
            match self.items.recv().await {
                Some(CallMessage::Final(message)) if accepts.json => return json(status(&message), message),
                Some(CallMessage::Final(message)) => return events(Body::from(sse::encode_data(&message))),
                // A client that takes JSON only gets the answer only.
                Some(CallMessage::Interim(_)) if !accepts.events => {}
                Some(CallMessage::Interim(message)) => return events(self.into_event_stream(message)),
                // It was cancelled, or its session is over: nothing more comes.
                None if accepts.events => return events(Body::empty()),
                None => return StatusCode::ACCEPTED.into_response(),
            }
        }
    }

    fn into_event_stream(self, first: Bytes) -> Body {
        let first = sse::encode_data(&first);
        Body::from_stream(stream::unfold((Some(first), Some(self)), async |(first, waiting)| {
            if let Some(first) = first {
                return Some((Ok::<_, Infallible>(first), (None, waiting)));
            }
            let mut waiting = waiting?;
            match tokio::time::timeout(KEEP_ALIVE, waiting.items.recv()).await {
                Err(_) => Some((Ok(Bytes::from_static(sse::KEEP_ALIVE)), (None, Some(waiting)))),
                Ok(Some(CallMessage::Interim(message))) => {
                    Some((Ok(sse::encode_data(&message)), (None, Some(waiting))))
                }
                Ok(Some(CallMessage::Final(message))) => Some((Ok(sse::encode_data(&message)), (None, None))),
                Ok(None) => None,
            }
        }))
    }
}

/// A stream that only ends when the client or the child goes.
pub fn open_stream(messages: mpsc::Receiver<Bytes>) -> Response {
    // The comment lets the headers out at once.
    let first = Some(Bytes::from_static(sse::KEEP_ALIVE));
    events(Body::from_stream(stream::unfold((first, messages), async |(first, mut messages)| {
        if let Some(first) = first {
            return Some((Ok::<_, Infallible>(first), (None, messages)));
        }
        match tokio::time::timeout(KEEP_ALIVE, messages.recv()).await {
            Err(_) => Some((Ok(Bytes::from_static(sse::KEEP_ALIVE)), (None, messages))),
            Ok(Some(message)) => Some((Ok(sse::encode_data(&message)), (None, messages))),
            Ok(None) => None,
        }
    })))
}

/// One message as JSON.
pub fn json(status: StatusCode, message: impl Into<Body>) -> Response {
    let mut response = Response::new(message.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(mcp::header::JSON));
    response
}

/// A stream of events.
pub fn events(body: Body) -> Response {
    let mut response = Response::new(body);
    for (name, value) in [
        ("content-type", mcp::header::EVENT_STREAM),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
