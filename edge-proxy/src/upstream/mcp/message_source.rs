//! The messages of one call, from the response to a request or from a channel.
//!
//! It must not know what they say.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mcp::border::body::{self, Media};
use mcp::border::excerpt;
use mcp::quirk::Quirk;
use mcp::sse::{Decoder, Event};

use super::channel::CallMessages;
use super::session::ServerMessages;
use crate::error::Fault;
use crate::upstream::connect::HttpResponse;

/// The response to a call before it is read.
pub(in crate::upstream) enum RawResponse {
    /// An HTTP response whose head was read.
    Http(HttpResponse),
    /// Messages of a channel, the first of which has come.
    Channel(CallMessages),
}

/// The source of one call's messages.
#[expect(clippy::large_enum_variant, reason = "the large one is the one on the hot path")]
pub(super) enum MessageSource {
    /// The event stream of a response.
    Http(EventStream),
    /// The messages that a channel dispatches to the call.
    Channel(CallMessages),
}

/// The events of a response.
pub(super) struct EventStream {
    response: HttpResponse,
    decoder: Decoder,
    max_event_bytes: usize,
    form: StreamForm,
}

/// What the body of an event stream turned out to be.
enum StreamForm {
    /// Nothing came yet.
    Unknown,
    /// Events, as its label says.
    Events,
    /// One JSON text, of which this much has come.
    Json(BytesMut),
}

impl StreamForm {
    /// Whether a chunk belongs to events: the first one begins with a field or a comment.
    #[inline]
    fn carries_events(&mut self, chunk: &[u8]) -> bool {
        if matches!(self, Self::Unknown) && matches!(chunk.first(), Some(b'd' | b'e' | b'i' | b'r' | b':')) {
            *self = Self::Events;
        }
        matches!(self, Self::Events)
    }
}

impl EventStream {
    /// Returns the next event, or `None` at the end. Cancel safe.
    async fn next(&mut self) -> Result<Option<Event>, Fault> {
        loop {
            if let Some(event) = self.decoder.next().map_err(|_| Fault::TooLarge)? {
                return Ok(Some(event));
            }
            match self.response.chunk().await? {
                Some(chunk) if self.form.carries_events(&chunk) => self.decoder.push(chunk),
                Some(chunk) => self.take_odd(chunk)?,
                None => return Ok(self.end()),
            }
        }
    }

    /// Takes a chunk that may belong to something else than events.
    #[cold]
    fn take_odd(&mut self, chunk: Bytes) -> Result<(), Fault> {
        if matches!(self.form, StreamForm::Unknown) && body::sniff(&chunk) == Some(Media::Json) {
            self.form = StreamForm::Json(BytesMut::new());
            self.response.quirks().note(Quirk::WrongLabel, &excerpt(&chunk, 0));
        }
        match &mut self.form {
            StreamForm::Json(text) if text.len() + chunk.len() > self.max_event_bytes => {
                return Err(Fault::TooLarge);
            }
            StreamForm::Json(text) => text.extend_from_slice(&chunk),
            StreamForm::Unknown | StreamForm::Events => {
                self.form = StreamForm::Events;
                self.decoder.push(chunk);
            }
        }
        Ok(())
    }

    /// The stream has ended. Returns its JSON text, if it was one.
    fn end(&mut self) -> Option<Event> {
        let StreamForm::Json(text) = &mut self.form else { return None };
        let data = text.split().freeze();
        (!data.is_empty()).then(|| Event { data, ..Event::default() })
    }
}

impl MessageSource {
    /// Reads the event stream of a response, whose events may have so many bytes.
    pub(super) fn event_stream(response: HttpResponse, max_event_bytes: usize) -> Self {
        let decoder = Decoder::new(max_event_bytes);
        Self::Http(EventStream { response, decoder, max_event_bytes, form: StreamForm::Unknown })
    }

    /// Returns the next event, or `None` at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Fault> {
        match self {
            Self::Http(events) => events.next().await,
            Self::Channel(messages) => {
                let data = messages.next().await?;
                Ok(Some(Event { data, ..Event::default() }))
            }
        }
    }

    /// Returns the next event, on this stream or on the server stream. Cancel safe.
    pub(super) async fn next_beside(
        &mut self,
        server_messages: Option<&mut ServerMessages>,
    ) -> Result<Option<Event>, Fault> {
        let Some(server_messages) = server_messages else { return self.next().await };
        tokio::select! {
            message = server_messages.next() => Ok(Some(Event { data: message, ..Event::default() })),
            event = self.next() => event,
        }
    }

    /// Sets the longest silence before the next message, from now on.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        match self {
            Self::Http(events) => events.response.set_timeout(timeout),
            Self::Channel(messages) => messages.set_timeout(timeout),
        }
    }

    /// Reads and drops the rest, unless it is longer than `max` bytes. Returns whether the end came.
    pub(super) async fn end(self, max: usize) -> bool {
        // A channel has no end, and the call has no more messages on it.
        let Self::Http(EventStream { mut response, .. }) = self else { return true };
        let mut rest = 0;
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => rest += chunk.len(),
                Ok(None) => return true,
                Err(_) => return false,
            }
            if rest > max {
                return false;
            }
        }
    }

    /// Reads and drops the rest.
    pub(super) async fn drain(mut self) {
        match &mut self {
            Self::Http(events) => while let Ok(Some(_)) = events.response.chunk().await {},
            Self::Channel(messages) => while messages.next().await.is_ok() {},
        }
    }
}
