//! An upstream's HTTP response: its head, and its body chunk by chunk within bounds of time and size. It must not know
//! what the body says.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use mcp::border::body::{self, Media};

use super::content_coding::Decoding;
use super::http_pool::PooledConnection;
use crate::error::Fault;
use crate::transport::{BufferError, BufferedBody};
use crate::upstream::quirk_sink::QuirkSink;

/// First bytes that tell what a body is, and the most that is waited for where white space comes before them.
const MIN_FIRST: usize = 8;
const MAX_FIRST: usize = 4 << 10;

/// A response whose head was read. Dropping it before its end closes the connection.
pub(in crate::upstream) struct HttpResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    buffered: Option<Bytes>,
    /// What decompresses the body, which nobody asked the upstream to compress.
    decoding: Option<Box<Decoding>>,
    connection: Option<PooledConnection>,
    quirks: Rc<QuirkSink>,
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
        let pool = connection.pool();
        let decoding = Decoding::of(&head.headers, &pool);
        Self {
            status: head.status,
            headers: head.headers,
            body,
            buffered: None,
            decoding,
            connection: Some(connection),
            quirks: Rc::clone(&pool.quirks),
            timeout,
            last_received: Instant::now(),
        }
    }

    /// Reads the `Content-Type`.
    pub(in crate::upstream) fn media_type(&self) -> MediaType {
        match body::label(self.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes)) {
            Some(Media::Json) => MediaType::Json,
            Some(Media::Events) => MediaType::Events,
            None => MediaType::Other,
        }
    }

    /// Where quirks of its upstream are noted.
    pub(in crate::upstream) fn quirks(&self) -> &Rc<QuirkSink> {
        &self.quirks
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
                    let rest = self.decoding.take().map(|decoding| decoding.finish()).transpose()?;
                    return Ok(rest.filter(|rest| !rest.is_empty()));
                }
                Some(Err(_)) => return Err(Fault::Interrupted),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let Some(decoding) = &mut self.decoding else { return Ok(Some(data)) };
                    let decoded = decoding.feed(&data)?;
                    if !decoded.is_empty() {
                        return Ok(Some(decoded));
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

    /// Returns the first bytes of the body, as far as they tell what it is, and keeps them for the next reader.
    pub(in crate::upstream) async fn first_bytes(&mut self) -> Result<Bytes, Fault> {
        let mut first = BytesMut::new();
        while first.trim_ascii_start().len() < MIN_FIRST && first.len() < MAX_FIRST {
            let Some(chunk) = self.chunk().await? else { break };
            first.extend_from_slice(&chunk);
        }
        let first = first.freeze();
        self.put_back(first.clone());
        Ok(first)
    }

    /// Keeps bytes that were read for the next reader.
    pub(in crate::upstream) fn put_back(&mut self, read: Bytes) {
        self.buffered = (!read.is_empty()).then_some(read);
    }

    /// Reads the whole body, and keeps it for the next reader.
    pub(in crate::upstream) async fn buffer(&mut self, limit: usize) -> Result<Bytes, Fault> {
        let body = self.read(limit).await?;
        self.put_back(body.clone());
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
