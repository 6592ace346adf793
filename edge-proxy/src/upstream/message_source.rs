//! Where the messages of one call come from: the answer to a request, or what a channel leads to the call.
//!
//! It must not know what they say.

use std::time::Duration;

use mcp::sse::{Decoder, Event};

use super::channel::CallMessages;
use super::http_response::HttpResponse;
use crate::error::Fault;

/// What a call was answered with.
pub(super) enum RawResponse {
    /// An answer whose head has come.
    HttpResponse(HttpResponse),
    /// Messages, the first of which has come.
    Messages(CallMessages),
}

/// Where the messages of one call come from, one by one.
#[expect(clippy::large_enum_variant, reason = "the large one is the one on the hot path")]
pub(super) enum MessageSource {
    /// The stream of an answer.
    Stream(HttpResponse, Decoder),
    /// A channel.
    Channel(CallMessages),
}

impl MessageSource {
    /// The stream of an answer, whose events may have so many bytes.
    pub(super) fn stream(response: HttpResponse, max_event_bytes: usize) -> Self {
        Self::Stream(response, Decoder::new(max_event_bytes))
    }

    /// The next event, or `None` at the end. The future may be dropped and made anew.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Fault> {
        match self {
            Self::Stream(response, decoder) => loop {
                if let Some(event) = decoder.next().map_err(|_| Fault::TooLarge)? {
                    return Ok(Some(event));
                }
                match response.chunk().await? {
                    Some(chunk) => decoder.push(chunk),
                    None => return Ok(None),
                }
            },
            Self::Channel(messages) => {
                let data = messages.next().await?;
                Ok(Some(Event { data, ..Event::default() }))
            }
        }
    }

    /// Waits so long for what comes next from now on.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        match self {
            Self::Stream(response, _) => response.set_timeout(timeout),
            Self::Channel(messages) => messages.set_timeout(timeout),
        }
    }

    /// Reads what is left.
    pub(super) async fn drain(mut self) {
        match &mut self {
            Self::Stream(response, _) => while let Ok(Some(_)) = response.chunk().await {},
            Self::Channel(messages) => while messages.next().await.is_ok() {},
        }
    }
}
