//! Finds the response to a request in what a server sends: a body, or a stream that may break and be resumed.
//!
//! It must not know what was asked. What is no message is skipped on a stream, and quoted if no response comes.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::body::Events;
use super::error::ClientError;
use super::hearer::Hearer;
use super::http::ResponseBody;
use super::rpc::RpcClient;
use crate::border::{Skipped, Spelling, Take, Unreadable, events, ids};
use crate::endpoint;
use crate::message::{Envelope, Kind};
use crate::quirk::Quirk;
use crate::revision::{Era, Revision};
use crate::sse::Event;

/// Resumptions of a broken stream in a row without an event.
const MAX_RECONNECTS: usize = 8;
/// Bounds of the retry delay that a server asks for, and the delay where it asks for none.
const MIN_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(10);
const DEFAULT_RETRY: Duration = Duration::from_millis(500);

/// What was skipped while a response was awaited.
#[derive(Default)]
struct SkippedMessages {
    count: Skipped<ClientError>,
    /// The error that quotes the first of them.
    first: Option<ClientError>,
}

impl RpcClient {
    /// Reads a response body until the response to `id`.
    pub(super) async fn result(
        &self,
        answer: ResponseBody,
        id: &str,
        silence: Option<Duration>,
        hearer: &mut dyn Hearer,
    ) -> Result<String, ClientError> {
        match answer {
            ResponseBody::Empty => {
                Err(ClientError::Protocol("the server accepted a request without a response".to_owned()))
            }
            ResponseBody::Json(body) => self.sole_result(&body, id, hearer).await,
            ResponseBody::Events(events) => self.stream(events, id, silence, hearer).await,
        }
    }

    /// The result in a body that is nothing but the response.
    async fn sole_result(
        &self,
        body: &Bytes,
        id: &str,
        hearer: &mut dyn Hearer,
    ) -> Result<String, ClientError> {
        let (mut answered, mut unreadable) = (None, None);
        for message in self.messages(body, id) {
            let message = match message {
                Ok(message) => message,
                Err((source, error)) => {
                    unreadable.get_or_insert_with(|| self.http.unreadable(&source, &error));
                    continue;
                }
            };
            let envelope = parsed(&message)?;
            if let Some(result) = self.message(&envelope, id, hearer).await? {
                return Ok(result);
            }
            answered = answered
                .or_else(|| envelope.id.filter(|_| envelope.kind() == Kind::Response).map(str::to_owned));
        }
        Err(unreadable.unwrap_or_else(|| {
            ClientError::Protocol(match answered {
                Some(other) => format!("answered request {}, but was asked {id}", self.http.sanitize(&other)),
                None => "the body contains no response to the request".to_owned(),
            })
        }))
    }

    /// Reads a stream until the response to `id`; resumes it where it breaks and the server allows it.
    async fn stream(
        &self,
        mut events: Box<Events>,
        id: &str,
        silence: Option<Duration>,
        hearer: &mut dyn Hearer,
    ) -> Result<String, ClientError> {
        let (mut last_event, mut retry, mut reconnects) = (None, DEFAULT_RETRY, 0);
        let mut skipped = SkippedMessages::default();
        loop {
            let end = match events.next(silence).await {
                Ok(Some(event)) => {
                    reconnects = 0;
                    last_event = event.id.clone().or(last_event);
                    retry =
                        event.retry.map_or(retry, |ms| Duration::from_millis(ms).clamp(MIN_RETRY, MAX_RETRY));
                    if let Some(result) = self.event(&event, id, &mut skipped, hearer).await? {
                        return Ok(result);
                    }
                    continue;
                }
                Ok(None) => ClientError::Broken("the stream ended before the response".to_owned()),
                Err(broken @ ClientError::Broken(_)) => broken,
                Err(other) => return Err(skipped.first.unwrap_or(other)),
            };
            let end = skipped.first.clone().unwrap_or(end);
            let legacy = self.revision.era() == Era::Legacy;
            reconnects += 1;
            if !legacy || last_event.is_none() || reconnects > MAX_RECONNECTS {
                return Err(end);
            }
            sleep(retry).await;
            events = self.get(last_event.as_ref()).await.map_err(|_| end)?;
        }
    }

    /// Reads an event of the stream of a request.
    async fn event(
        &self,
        event: &Event,
        id: &str,
        skipped: &mut SkippedMessages,
        hearer: &mut dyn Hearer,
    ) -> Result<Option<String>, ClientError> {
        let data = match events::take(event) {
            Take::Message(data) => data,
            Take::Nothing => return Ok(None),
            Take::Odd(_) if !self.negotiated && event.event.as_deref() == Some(endpoint::EVENT) => {
                return Err(ClientError::EventStream);
            }
            Take::Odd(quirk) => {
                self.http.note_event(quirk, event);
                return Ok(None);
            }
        };
        let mut found = None;
        for message in self.messages(data, id) {
            match message {
                Ok(message) => {
                    skipped.count.clear();
                    found = self.message(&parsed(&message)?, id, hearer).await?.or(found);
                }
                Err((source, unreadable)) => self.skip(&source, id, unreadable, skipped)?,
            }
        }
        Ok(found)
    }

    /// Passes over a message that cannot be read, unless it is the response.
    fn skip(
        &self,
        source: &Bytes,
        id: &str,
        unreadable: Unreadable,
        skipped: &mut SkippedMessages,
    ) -> Result<(), ClientError> {
        let error = self.http.unreadable(source, &unreadable);
        if id.parse().is_ok_and(|number: u64| ids::claimed(source) == Some(number)) {
            return Err(error);
        }
        self.http.quirks.note(Quirk::UnreadableMessages, || self.http.quoted(source, unreadable.at));
        let first = skipped.first.get_or_insert(error);
        skipped.count.add(unreadable.length, || first.clone())
    }

    /// The messages in a text: one, or a batch. `open` is the raw id of the only request that it can answer.
    fn messages(&self, source: &Bytes, open: &str) -> Vec<Result<Bytes, (Bytes, Unreadable)>> {
        let http = &self.http;
        let parts = http.parts(source);
        let is_batch = source.trim_ascii_start().starts_with(b"[");
        if is_batch && parts.len() == 1 && self.revision != Revision::V2025_03_26 {
            http.quirks.note(Quirk::ListOfOne, || http.quoted(source, 0));
        }
        let read = |part| http.readable(&part, Some(open)).map_err(|error| (part, error));
        parts.into_iter().map(read).collect()
    }

    /// Handles a message. Returns the result, if it is the response to `id`.
    pub(super) async fn message(
        &self,
        message: &Envelope<'_>,
        id: &str,
        hearer: &mut dyn Hearer,
    ) -> Result<Option<String>, ClientError> {
        match message.kind() {
            Kind::Notification => {
                hearer.hear(message.method.as_deref().unwrap_or_default(), message.params);
                return Ok(None);
            }
            Kind::Request => {
                self.reply(message, hearer).await;
                return Ok(None);
            }
            Kind::Response => {}
        }
        // An error without an id is about the only request there is.
        let spelling = message.id.map_or(Some(Spelling::Exact), |answered| ids::same(answered, id));
        match spelling {
            None => return Ok(None),
            Some(Spelling::Other) => {
                let says = || format!("{} for {id}", self.http.sanitize(message.id.unwrap_or_default()));
                self.http.quirks.note(Quirk::IdsRespelt, says);
            }
            Some(Spelling::Exact) => {}
        }
        match message.error {
            Some(error) => Err(self.http.rpc(error, 200)),
            None => Ok(message.result.map(str::to_owned)),
        }
    }
}

/// A message that was read already.
pub(super) fn parsed(message: &[u8]) -> Result<Envelope<'_>, ClientError> {
    Envelope::parse(message).map_err(|e| ClientError::Protocol(format!("a message: {e}")))
}
