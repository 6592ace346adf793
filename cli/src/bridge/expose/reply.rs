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

use crate::bridge::expose::backend::{Backend, Item};
use crate::bridge::expose::relay::ClientId;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Somebody who waits for the answer to a call.
#[derive(Debug)]
pub struct Waiting {
    /// Where its messages arrive.
    pub items: mpsc::Receiver<Item>,
    /// In the modern era the exchange is the client: when it ends, or is cut off, so does the call.
    pub exchange: Option<Exchange>,
}

/// A client that goes when this is dropped.
#[derive(Debug)]
pub struct Exchange {
    /// Who answers.
    pub backend: Arc<Backend>,
    /// The client.
    pub client: ClientId,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.backend.close(self.client);
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

impl Waiting {
    /// The answer, in a form that the client takes. `status` is asked about a first message that is the last.
    pub async fn reply(mut self, accepts: Accepts, status: fn(&[u8]) -> StatusCode) -> Response {
        loop {
            match self.items.recv().await {
                Some(Item::Answer(message)) if accepts.json => return json(status(&message), message),
                Some(Item::Answer(message)) => return events(Body::from(sse::encode_data(&message))),
                // A client that takes JSON only gets the answer only.
                Some(Item::Notice(_)) if !accepts.events => {}
                Some(Item::Notice(message)) => return events(self.into_body(message)),
                // It was cancelled, or its session is over: nothing more comes.
                None if accepts.events => return events(Body::empty()),
                None => return StatusCode::ACCEPTED.into_response(),
            }
        }
    }

    fn into_body(self, first: Bytes) -> Body {
        let first = sse::encode_data(&first);
        Body::from_stream(stream::unfold((Some(first), Some(self)), async |(first, waiting)| {
            if let Some(first) = first {
                return Some((Ok::<_, Infallible>(first), (None, waiting)));
            }
            let mut waiting = waiting?;
            match tokio::time::timeout(KEEP_ALIVE, waiting.items.recv()).await {
                Err(_) => Some((Ok(Bytes::from_static(sse::KEEP_ALIVE)), (None, Some(waiting)))),
                Ok(Some(Item::Notice(message))) => {
                    Some((Ok(sse::encode_data(&message)), (None, Some(waiting))))
                }
                Ok(Some(Item::Answer(message))) => Some((Ok(sse::encode_data(&message)), (None, None))),
                Ok(None) => None,
            }
        }))
    }
}

/// A stream that only ends when the client or the child goes.
pub fn open_stream(messages: mpsc::Receiver<Bytes>) -> Response {
    // The comment lets the headers out at once.
    let hello = Some(Bytes::from_static(sse::KEEP_ALIVE));
    events(Body::from_stream(stream::unfold((hello, messages), async |(hello, mut messages)| {
        if let Some(hello) = hello {
            return Some((Ok::<_, Infallible>(hello), (None, messages)));
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
