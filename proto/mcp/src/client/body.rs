//! The bytes of a response: decoded, and told apart by what they are where their label does not say.
//!
//! It must not know what messages say.

use std::time::Duration;

use ::http::{HeaderMap, HeaderName, header as names};
use bytes::{Bytes, BytesMut};
use reqwest::Response;
use tokio::time::timeout;

use super::MAX_MESSAGE_BYTES;
use super::connections::reason;
use super::error::ClientError;
use super::http::HttpClient;
use crate::border::body::{Coding, InflateError, Inflater, Media, coding, label, sniff};
use crate::header::{EVENT_STREAM, JSON};
use crate::quirk::Quirk;
use crate::sse::{Decoder, Event};

/// Bytes that are looked at to see what a body is.
const MAX_SNIFFED_BYTES: usize = 256;

/// The body of a response, while it is read.
pub(super) struct Body {
    response: Response,
    inflater: Option<Inflater>,
    /// What was read to see what it is.
    ahead: Option<Bytes>,
    ended: bool,
}

/// The events of a body.
pub(super) struct Events {
    body: Body,
    decoder: Decoder,
}

impl Body {
    /// The body of a response that may be compressed, though nobody asked for that.
    pub(super) fn new(http: &HttpClient, response: Response) -> Result<Self, ClientError> {
        let named = header(response.headers(), names::CONTENT_ENCODING);
        let coding = coding(named);
        let says = || http.sanitize(&String::from_utf8_lossy(named.unwrap_or_default()));
        match &coding {
            Coding::Identity => {}
            Coding::Mislabelled => http.quirks.note(Quirk::WrongLabel, says),
            Coding::Gzip | Coding::Deflate => http.quirks.note(Quirk::UnaskedCoding, says),
            Coding::Unknown(name) => {
                let status = response.status().as_u16();
                let excerpt =
                    format!("Content-Encoding {name:?}, which was not asked for and is not decoded");
                return Err(ClientError::Http { status, excerpt });
            }
        }
        Ok(Self { response, inflater: Inflater::new(&coding), ahead: None, ended: false })
    }

    /// What it is: by its label, or else by how it begins.
    pub(super) async fn media(&mut self, http: &HttpClient) -> Result<Media, ClientError> {
        let content_type = header(self.response.headers(), names::CONTENT_TYPE);
        if let Some(media) = label(content_type) {
            return Ok(media);
        }
        let labelled = String::from_utf8_lossy(content_type.unwrap_or_default()).into_owned();
        let mut start = BytesMut::new();
        let mut found = None;
        while found.is_none()
            && start.len() < MAX_SNIFFED_BYTES
            && let Some(chunk) = self.next(Some(http.endpoint.timeout)).await?
        {
            start.extend_from_slice(&chunk);
            found = sniff(&start);
        }
        self.ahead = Some(start.freeze()).filter(|start| !start.is_empty());
        let Some(media) = found else {
            let status = self.response.status().as_u16();
            let malformed = format!("content type {labelled:?} instead of {JSON} or {EVENT_STREAM}");
            return Err(ClientError::Http { status, excerpt: http.sanitize(&malformed) });
        };
        http.quirks.note(Quirk::WrongLabel, || http.sanitize(&format!("content type {labelled:?}")));
        Ok(media)
    }

    /// The next chunk, decoded; `None` at the end. Without `silence`, waits as long as it takes.
    pub(super) async fn next(&mut self, silence: Option<Duration>) -> Result<Option<Bytes>, ClientError> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        while !self.ended {
            let chunk = next_chunk(&mut self.response, silence).await?;
            self.ended = chunk.is_none();
            let decoded = match (&mut self.inflater, chunk) {
                (None, chunk) => return Ok(chunk),
                (Some(inflater), Some(chunk)) => inflater.feed(&chunk, MAX_MESSAGE_BYTES),
                (Some(inflater), None) => inflater.finish(MAX_MESSAGE_BYTES),
            };
            match decoded {
                Ok(decoded) if decoded.is_empty() => {}
                Ok(decoded) => return Ok(Some(decoded)),
                Err(InflateError::TooLarge { limit }) => return Err(ClientError::TooLarge { limit }),
                Err(error) => return Err(ClientError::Protocol(format!("the body {error}"))),
            }
        }
        Ok(None)
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
        Self { body, decoder: Decoder::new(MAX_MESSAGE_BYTES) }
    }

    /// The next event, `None` at the end of the stream. Without `silence`, waits as long as it takes.
    pub(super) async fn next(&mut self, silence: Option<Duration>) -> Result<Option<Event>, ClientError> {
        loop {
            let event =
                self.decoder.next().map_err(|_| ClientError::TooLarge { limit: MAX_MESSAGE_BYTES })?;
            if event.is_some() {
                return Ok(event);
            }
            match self.body.next(silence).await? {
                Some(chunk) => self.decoder.push(chunk),
                None => return Ok(None),
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
