//! An upstream's HTTP response: its head, and its body chunk by chunk within bounds of time and size. It must not know
//! what the body says.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::http_pool::PooledConnection;
use crate::error::Fault;
use crate::transport::{BufferError, BufferedBody};

/// A response whose head was read. Dropping it before its end closes the connection.
pub(in crate::upstream) struct HttpResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    buffered: Option<Bytes>,
    connection: Option<PooledConnection>,
    timeout: Duration,
    last_received: Instant,
}

/// The kind of body that a response has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum MediaType {
    /// One message.
    Json,
    /// A stream of messages.
    Events,
    /// Something else.
    Other,
}

impl HttpResponse {
    pub(in crate::upstream) fn new(
        response: Response<Incoming>,
        connection: PooledConnection,
        timeout: Duration,
    ) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status,
            headers: head.headers,
            body,
            buffered: None,
            connection: Some(connection),
            timeout,
            last_received: Instant::now(),
        }
    }

    /// Reads the `Content-Type`.
    pub(in crate::upstream) fn media_type(&self) -> MediaType {
        let value = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = value.split_once(';').map_or(value, |(kind, _)| kind).trim();
        if kind.eq_ignore_ascii_case(mcp::header::JSON) {
            MediaType::Json
        } else if kind.eq_ignore_ascii_case(mcp::header::EVENT_STREAM) {
            MediaType::Events
        } else {
            MediaType::Other
        }
    }

    /// The longest silence between two chunks.
    pub(in crate::upstream) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sets the longest silence between two chunks, from now on.
    pub(in crate::upstream) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
        self.last_received = Instant::now();
    }

    /// Returns the next chunk, or `None` at the end. Cancel safe: the timeout goes on from the last chunk.
    pub(in crate::upstream) async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        if let Some(buffered) = self.buffered.take() {
            return Ok(Some(buffered));
        }
        loop {
            let left = self.timeout.saturating_sub(self.last_received.elapsed());
            let frame = tokio::time::timeout(left, self.body.frame()).await.map_err(|_| Fault::Timeout)?;
            self.last_received = Instant::now();
            match frame {
                None => {
                    if let Some(connection) = self.connection.take() {
                        connection.release();
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

    /// Returns the next chunk of a body that began at `begun`: all of it must come within the timeout, and not only the next
    /// chunk.
    pub(in crate::upstream) async fn chunk_since(&mut self, begun: Instant) -> Result<Option<Bytes>, Fault> {
        self.last_received = begun;
        self.chunk().await
    }

    /// Reads the whole body, and keeps it for the next reader.
    pub(in crate::upstream) async fn buffer(&mut self, limit: usize) -> Result<Bytes, Fault> {
        let body = self.read(limit).await?;
        self.buffered = Some(body.clone());
        Ok(body)
    }

    /// Reads the whole body, within the timeout.
    pub(in crate::upstream) async fn collect(mut self, limit: usize) -> Result<Bytes, Fault> {
        self.read(limit).await
    }

    /// Reads the whole body, within the timeout.
    pub(in crate::upstream) async fn read(&mut self, limit: usize) -> Result<Bytes, Fault> {
        // The connection is released with the last chunk.
        let pool = self.connection.as_ref().map(PooledConnection::pool);
        let Some(pool) = pool else { return Ok(self.chunk().await?.unwrap_or_default()) };
        let mut buffered = BufferedBody::within(limit, || pool.reservation());
        let begun = Instant::now();
        while let Some(data) = self.chunk_since(begun).await? {
            buffered.push(data).map_err(|error| match error {
                BufferError::TooLarge => Fault::TooLarge,
                BufferError::OverBudget => Fault::OverBudget,
            })?;
        }
        Ok(buffered.finish())
    }
}
