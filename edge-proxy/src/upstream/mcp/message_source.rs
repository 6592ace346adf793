//! The messages of one call, from the response to a request or from a channel.
//!
//! It must not know what they say.

use std::time::Duration;

use mcp::sse::Event;

use super::awaited_response::AwaitedResponse;
use super::channel::CallMessages;
use super::event_stream::EventStream;
use super::incoming::ResponsePlace;
use super::response::OpenedResponse;
use super::session::ServerMessages;
use crate::error::Fault;
use crate::upstream::connect::HttpResponse;

/// The response to a call before it is read.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
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
    /// A response whose head has not come.
    Awaited(AwaitedResponse),
}

impl MessageSource {
    /// Reads the event stream of a response, whose events may have so many bytes.
    pub(super) fn event_stream(response: HttpResponse, max_event_bytes: usize) -> Self {
        Self::Http(EventStream::new(response, max_event_bytes))
    }

    /// Where the response to the call comes.
    pub(super) fn place(&self) -> ResponsePlace {
        match self {
            Self::Http(events) => events.place(),
            Self::Channel(_) | Self::Awaited(_) => ResponsePlace::Shared,
        }
    }

    /// Returns the next event, or `None` at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Fault> {
        loop {
            let message = match self {
                Self::Http(events) => return events.next().await,
                Self::Channel(messages) => messages.next().await?,
                Self::Awaited(awaited) => match awaited.opened().await? {
                    Some(OpenedResponse::Message(message)) => message.body,
                    Some(OpenedResponse::Events(source)) => {
                        *self = source;
                        continue;
                    }
                    None => return Ok(None),
                },
            };
            return Ok(Some(Event { data: message, ..Event::default() }));
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
            Self::Http(events) => events.set_timeout(timeout),
            Self::Channel(messages) => messages.set_timeout(timeout),
            // Its head comes within the time of the request.
            Self::Awaited(_) => {}
        }
    }

    /// Reads and drops the rest, unless it is longer than `max` bytes. Returns whether the end came.
    pub(super) async fn end(self, max: usize) -> bool {
        let mut events = match self {
            Self::Http(events) => events,
            // A channel has no end, and the call has no more messages on it.
            Self::Channel(_) => return true,
            Self::Awaited(_) => return false,
        };
        let mut rest = 0;
        loop {
            match events.chunk().await {
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
            Self::Http(events) => while let Ok(Some(_)) = events.chunk().await {},
            Self::Channel(messages) => while messages.next().await.is_ok() {},
            Self::Awaited(_) => while let Ok(Some(_)) = self.next().await {},
        }
    }
}
