//! The events of an HTTP response. It must not know what they say.

use std::time::Duration;

use bytes::Bytes;
use mcp::border::event_reader::UNENDED_WAIT;
use mcp::border::events::{Take, take};
use mcp::border::{EventReader, Mended, Peer, mend};
use mcp::message::{Envelope, EnvelopeError};
use mcp::quirk::Quirk;
use mcp::sse::{Ends, Event};

use super::incoming::ResponsePlace;
use crate::error::Fault;
use crate::upstream::connect::HttpResponse;
use crate::upstream::quirk_sink::QuirkSink;

/// The events of a response.
pub(super) struct EventStream {
    response: HttpResponse,
    reader: EventReader,
}

/// What came after the beginning of an event.
enum Rest {
    /// A chunk, or the end.
    Chunk(Option<Bytes>),
    /// Nothing, and the event is whole.
    Unended(Event),
}

impl EventStream {
    /// Reads the events of a response, which may have so many bytes.
    pub(super) fn new(response: HttpResponse, max_event_bytes: usize) -> Self {
        Self { response, reader: EventReader::new(max_event_bytes) }
    }

    /// Reads the events of a stream that belongs to many calls, which goes on after an event that has more bytes.
    pub(super) fn skipping(response: HttpResponse, max_event_bytes: usize) -> Self {
        Self { response, reader: EventReader::skipping(max_event_bytes) }
    }

    /// Takes what is left of the event that was too large, if the stream goes on after it.
    #[cold]
    pub(super) fn take_ends(&mut self) -> Option<Ends> {
        self.reader.take_ends()
    }

    /// Where a response comes.
    pub(super) fn place(&self) -> ResponsePlace {
        if self.response.is_reused() { ResponsePlace::Shared } else { ResponsePlace::OwnStream }
    }

    /// Where quirks of its upstream are noted.
    pub(super) fn quirks(&self) -> &QuirkSink {
        self.response.quirks()
    }

    /// Resolves when the way to the upstream is about to end.
    pub(super) fn retired(&self) -> impl Future<Output = ()> + use<> {
        self.response.retired()
    }

    /// Returns the next event, or `None` at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Fault> {
        loop {
            if let Some(event) = self.reader.next().map_err(|_| Fault::TooLarge)? {
                self.response.message_taken(event.data.len());
                return Ok(Some(event));
            }
            let came = match self.reader.has_begun() {
                false => self.response.chunk().await?,
                true => match Box::pin(self.rest_of_event()).await? {
                    Rest::Chunk(came) => came,
                    Rest::Unended(event) => return Ok(Some(event)),
                },
            };
            let Some(chunk) = came else { return Ok(self.end()) };
            if self.reader.push(chunk).map_err(|_| Fault::TooLarge)? {
                self.response.note_label();
            }
        }
    }

    /// Waits for the rest of an event, though not for long if only its end is missing. Cancel safe.
    async fn rest_of_event(&mut self) -> Result<Rest, Fault> {
        if let Ok(came) = tokio::time::timeout(UNENDED_WAIT, self.response.chunk()).await {
            return came.map(Rest::Chunk);
        }
        match self.reader.take_unended() {
            None => self.response.chunk().await.map(Rest::Chunk),
            Some(event) => {
                self.quirks().note(Quirk::UnendedEvents, "");
                Ok(Rest::Unended(event))
            }
        }
    }

    #[cold]
    fn end(&mut self) -> Option<Event> {
        let last = self.reader.end()?;
        if !self.reader.is_json() {
            self.quirks().note(Quirk::UnendedEvents, "");
        }
        Some(last)
    }

    /// Returns the data of the next event that carries a message, unread, or `None` at the end. Events of other types are passed
    /// over. Cancel safe.
    pub(super) async fn next_unread(&mut self) -> Result<Option<Bytes>, Fault> {
        while let Some(event) = self.next().await? {
            match take(&event) {
                Take::Message(_) => return Ok(Some(event.data)),
                Take::Nothing => {}
                Take::Odd(quirk) => self.quirks().note_event(quirk, &event),
            }
        }
        Ok(None)
    }

    /// Returns the next message that can be read on a stream that answers no request, or `None` at the end: mended where it has one
    /// meaning. What is no message is passed over. Cancel safe.
    pub(super) async fn next_message(&mut self) -> Result<Option<Bytes>, Fault> {
        while let Some(data) = self.next_unread().await? {
            match Envelope::parse(&data) {
                Ok(_) => return Ok(Some(data)),
                Err(error) => {
                    let mended = self.mended(&data, error);
                    if mended.is_some() {
                        return Ok(mended);
                    }
                }
            }
        }
        Ok(None)
    }

    #[cold]
    fn mended(&self, message: &Bytes, error: EnvelopeError) -> Option<Bytes> {
        match mend(message, error, Peer::Server { open: None }) {
            Ok(Mended { message: meant, quirks }) => {
                self.quirks().note_all(quirks, message);
                Some(meant)
            }
            Err(_) => {
                self.quirks().note(Quirk::UnreadableMessages, message);
                None
            }
        }
    }

    /// Returns the next chunk, unread, or `None` at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        self.response.chunk().await
    }

    /// Sets the longest silence between two chunks, from now on.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.response.set_timeout(timeout);
    }
}
