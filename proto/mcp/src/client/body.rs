//! The bytes of a response: decoded, and told apart by what they are where their label does not say.
//!
//! It must not know what messages say.

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, header as names};
use bytes::{Bytes, BytesMut};
use reqwest::Response;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::MAX_MESSAGE_BYTES;
use super::connections::reason;
use super::error::ClientError;
use super::http::HttpClient;
use super::quirk_log::QuirkLog;
use crate::border::EventReader;
use crate::border::body::{Coding, InflateError, Inflater, Media, Told, coding, label, tell};
use crate::border::event_reader::UNENDED_WAIT;
use crate::header::{EVENT_STREAM, JSON};
use crate::quirk::Quirk;
use crate::secrets::Secrets;
use crate::sse::Event;

/// The body of a response, while it is read.
pub(super) struct Body {
    response: Response,
    quirks: Arc<QuirkLog>,
    secrets: Arc<Secrets>,
    inflater: Option<Inflater>,
    /// What was read to see what it is.
    ahead: Option<Bytes>,
    ended: bool,
}

/// The events of a body.
pub(super) struct Events {
    body: Body,
    reader: EventReader,
}

impl Body {
    /// The body of a response that may be compressed, though nobody asked for that.
    pub(super) fn new(http: &HttpClient, response: Response) -> Result<Self, ClientError> {
        let named = header(response.headers(), names::CONTENT_ENCODING);
        let coding = coding(named);
        let says = || http.quoted(named.unwrap_or_default(), 0);
        if coding == Coding::Unknown {
            let status = response.status().as_u16();
            let excerpt = format!("Content-Encoding {}, which was not asked for and is not decoded", says());
            return Err(ClientError::Http { status, excerpt });
        }
        if let Some(quirk) = coding.quirk() {
            http.quirks.note(quirk, says);
        }
        let (quirks, secrets) = (Arc::clone(&http.quirks), Arc::clone(&http.secrets));
        let inflater = Inflater::new(&coding, MAX_MESSAGE_BYTES);
        Ok(Self { response, quirks, secrets, inflater, ahead: None, ended: false })
    }

    /// What it is: by its label, unless its first bytes say otherwise. Those of a stream of events are not waited for: they
    /// are looked at when they come.
    pub(super) async fn media(&mut self, silence: Duration) -> Result<Media, ClientError> {
        let label = label(self.content_type());
        if label == Some(Media::Events) {
            return Ok(Media::Events);
        }
        let mut first = Bytes::new();
        let told = loop {
            if let Some(told) = tell(label, &first, self.ended) {
                break told;
            }
            let chunk = self.next(Some(silence)).await?.unwrap_or_default();
            first = if first.is_empty() { chunk } else { [&first[..], &chunk].concat().into() };
        };
        self.ahead = Some(first).filter(|first| !first.is_empty());
        match told {
            Told::Labelled(media) => Ok(media),
            Told::Mislabelled(media) => {
                self.note_label();
                Ok(media)
            }
            Told::Neither => {
                let status = self.response.status().as_u16();
                let excerpt = format!("{} instead of {JSON} or {EVENT_STREAM}", self.labelled());
                Err(ClientError::Http { status, excerpt: self.secrets.excerpt(&excerpt) })
            }
        }
    }

    fn content_type(&self) -> Option<&[u8]> {
        header(self.response.headers(), names::CONTENT_TYPE)
    }

    fn labelled(&self) -> String {
        format!("content type {:?}", String::from_utf8_lossy(self.content_type().unwrap_or_default()))
    }

    fn note_label(&self) {
        self.quirks.note(Quirk::WrongLabel, || self.secrets.excerpt(&self.labelled()));
    }

    /// The next chunk, decoded; `None` at the end. Without `silence`, waits as long as it takes.
    pub(super) async fn next(&mut self, silence: Option<Duration>) -> Result<Option<Bytes>, ClientError> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        loop {
            if let Some(decoded) = self.decode().await? {
                return Ok(Some(decoded));
            }
            if self.ended {
                return Ok(None);
            }
            let chunk = next_chunk(&mut self.response, silence).await?;
            self.ended = chunk.is_none();
            match (&mut self.inflater, chunk) {
                (None, chunk) => return Ok(chunk),
                (Some(inflater), Some(chunk)) => inflater.feed(chunk),
                (Some(inflater), None) => inflater.end(),
            }
        }
    }

    /// The next part of what came, decompressed; `None` when there is no more of it.
    async fn decode(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(inflater) = &mut self.inflater else { return Ok(None) };
        loop {
            // A chunk may come to very much, and others have work to do.
            yield_now().await;
            match inflater.step() {
                Ok(Some(part)) if part.is_empty() => {}
                Ok(part) => return Ok(part),
                Err(InflateError::TooLarge { limit }) => return Err(ClientError::TooLarge { limit }),
                Err(error) => return Err(ClientError::Protocol(format!("the body {error}"))),
            }
        }
    }

    /// The whole of it, refused as soon as it passes the limit.
    pub(super) async fn whole(&mut self, limit: usize, silence: Duration) -> Result<Bytes, ClientError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.next(Some(silence)).await? {
            if body.len() + chunk.len() > limit {
                return Err(ClientError::TooLarge { limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

impl Events {
    pub(super) fn new(body: Body) -> Self {
        Self { body, reader: EventReader::new(MAX_MESSAGE_BYTES) }
    }

    /// The next event, `None` at the end of the stream. Without `silence`, waits as long as it takes.
    pub(super) async fn next(&mut self, silence: Option<Duration>) -> Result<Option<Event>, ClientError> {
        let too_large = |_| ClientError::TooLarge { limit: MAX_MESSAGE_BYTES };
        loop {
            if let Some(event) = self.reader.next().map_err(too_large)? {
                if let Some(inflater) = &mut self.body.inflater {
                    inflater.message_taken(event.data.len());
                }
                return Ok(Some(event));
            }
            let came = match self.reader.has_begun() {
                false => self.body.next(silence).await?,
                true => match timeout(UNENDED_WAIT, self.body.next(silence)).await {
                    Ok(came) => came?,
                    Err(_) => match self.reader.take_unended() {
                        None => self.body.next(silence).await?,
                        Some(event) => {
                            self.body.quirks.note(Quirk::UnendedEvents, String::new);
                            return Ok(Some(event));
                        }
                    },
                },
            };
            let Some(chunk) = came else {
                let last = self.reader.end();
                if last.is_some() && !self.reader.is_json() {
                    self.body.quirks.note(Quirk::UnendedEvents, String::new);
                }
                return Ok(last);
            };
            if self.reader.push(chunk).map_err(too_large)? {
                self.body.note_label();
            }
        }
    }
}

async fn next_chunk(
    response: &mut Response,
    silence: Option<Duration>,
) -> Result<Option<Bytes>, ClientError> {
    let broken = |e| ClientError::Broken(reason(e));
    let Some(silence) = silence else {
        return response.chunk().await.map_err(broken);
    };
    match timeout(silence, response.chunk()).await {
        Err(_) => Err(ClientError::Timeout(silence)),
        Ok(chunk) => chunk.map_err(broken),
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    headers.get(name).map(|value| value.as_bytes())
}
