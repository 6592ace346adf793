//! The answer of an upstream as HTTP: its head, and its body chunk by chunk within bounds of time and size.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::endpoint::Lease;
use crate::error::Fault;
use crate::transport::{Gathered, TooLarge};

/// An answer whose head has come. Dropping it before its end closes the connection.
pub(super) struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
    ahead: Option<Bytes>,
    lease: Option<Lease>,
    timeout: Duration,
    last: Instant,
}

/// What kind of body an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// One message.
    Json,
    /// A stream of messages.
    Events,
    /// Something else.
    Other,
}

impl Reply {
    pub(super) fn new(response: Response<Incoming>, lease: Lease, timeout: Duration) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status,
            headers: head.headers,
            body,
            ahead: None,
            lease: Some(lease),
            timeout,
            last: Instant::now(),
        }
    }

    /// What its `Content-Type` says.
    pub(super) fn media(&self) -> Media {
        let value = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = value.split_once(';').map_or(value, |(kind, _)| kind).trim();
        if kind.eq_ignore_ascii_case(mcp::header::JSON) {
            Media::Json
        } else if kind.eq_ignore_ascii_case(mcp::header::EVENT_STREAM) {
            Media::Events
        } else {
            Media::Other
        }
    }

    /// Waits so long between two chunks from now on.
    pub(super) fn be_patient(&mut self, timeout: Duration) {
        self.timeout = timeout;
        self.last = Instant::now();
    }

    /// The next chunk, or `None` at the end. What was waited is kept when the future is dropped and made anew.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        loop {
            let left = self.timeout.saturating_sub(self.last.elapsed());
            let frame = tokio::time::timeout(left, self.body.frame()).await.map_err(|_| Fault::Timeout)?;
            self.last = Instant::now();
            match frame {
                None => {
                    if let Some(lease) = self.lease.take() {
                        lease.give_back();
                    }
                    return Ok(None);
                }
                Some(Err(_)) => return Err(Fault::Interrupted),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body, which can be read again afterwards.
    pub(super) async fn read_ahead(&mut self, limit: usize) -> Result<Bytes, Fault> {
        let body = self.read(limit).await?;
        self.ahead = Some(body.clone());
        Ok(body)
    }

    /// The whole body.
    pub(super) async fn collect(mut self, limit: usize) -> Result<Bytes, Fault> {
        self.read(limit).await
    }

    async fn read(&mut self, limit: usize) -> Result<Bytes, Fault> {
        let mut gathered = Gathered::within(limit);
        while let Some(data) = self.chunk().await? {
            gathered.push(data).map_err(|TooLarge| Fault::TooLarge)?;
        }
        Ok(gathered.finish())
    }
}
