//! HTTP responses: JSON for a single message, else Server-Sent Events with keep-alives.

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

/// A call in flight, seen from its HTTP request.
#[derive(Debug)]
pub struct PendingCall {
    /// The messages of the call.
    pub items: mpsc::Receiver<CallMessage>,
    /// In the modern era the HTTP request is the client: when it ends or breaks off, so does the call.
    pub client: Option<ClientGuard>,
}

/// Removes a client from its child when dropped.
#[derive(Debug)]
pub struct ClientGuard {
    /// The child of the client.
    pub child: Arc<SupervisedChild>,
    pub client: ClientId,
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        self.child.remove_client(self.client);
    }
}

/// The content types that a client accepts.
#[derive(Debug, Clone, Copy)]
pub struct Accepts {
    /// `application/json`.
    pub json: bool,
    /// `text/event-stream`.
    pub events: bool,
}

impl PendingCall {
    /// Responds in a content type that the client accepts. `status` sets the HTTP status of a response without earlier messages.
    pub async fn respond(mut self, accepts: Accepts, status: fn(&[u8]) -> StatusCode) -> Response {
        loop {
            match self.items.recv().await {
                Some(CallMessage::Final(message)) if accepts.json => return json(status(&message), message),
                Some(CallMessage::Final(message)) => return events(Body::from(sse::encode_data(&message))),
                // A client that accepts only JSON gets only the response.
                Some(CallMessage::Interim(_)) if !accepts.events => {}
                Some(CallMessage::Interim(message)) => return events(self.into_event_stream(message)),
                // The call was cancelled or its session ended: nothing more comes.
                None if accepts.events => return events(Body::empty()),
                None => return StatusCode::ACCEPTED.into_response(),
            }
        }
    }

    /// Waits for the response alone. `None` if nothing comes: the call was cancelled or its session ended.
    pub async fn last(mut self) -> Option<Bytes> {
        loop {
            if let CallMessage::Final(message) = self.items.recv().await? {
                return Some(message);
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

/// Responds with a stream that ends with the client or the child.
pub fn open_stream(messages: mpsc::Receiver<Bytes>) -> Response {
    // The comment makes the server send the headers at once.
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

/// The response to a `ping` with this raw id, which no child has to be asked for.
pub fn pong(id: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#).into()
}

/// Responds with one message as JSON.
pub fn json(status: StatusCode, message: impl Into<Body>) -> Response {
    let mut response = Response::new(message.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(mcp::header::JSON));
    response
}

/// Responds with a stream of events.
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
