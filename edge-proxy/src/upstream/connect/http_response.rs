//! An upstream's HTTP response: its head, and its body chunk by chunk within bounds of time and size. It must not know
//! what the body says.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use mcp::border::body::{Media, Told, label, tell};
use mcp::quirk::Quirk;

use super::content_coding::Decoding;
use super::http_pool::PooledConnection;
use crate::error::Fault;
use crate::transport::{BufferError, BufferedBody};
use crate::upstream::quirk_sink::QuirkSink;

/// A response whose head was read. Dropping it before its end closes the connection.
pub(in crate::upstream) struct HttpResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    buffered: Option<Bytes>,
    /// What decompresses the body, which nobody asked the upstream to compress.
    decoding: Option<Box<Decoding>>,
    has_ended: bool,
    /// Whether its connection carried another request before.
    reused: bool,
    connection: Option<PooledConnection>,
    quirks: Rc<QuirkSink>,
    timeout: Duration,
    /// The time since which all of a body must come within the timeout.
    begun: Instant,
    last_received: Instant,
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
        let now = Instant::now();
        Self {
            status: head.status,
            headers: head.headers,
            body,
            buffered: None,
            decoding,
            has_ended: false,
            reused: connection.is_reused(),
            connection: Some(connection),
            quirks: Rc::clone(&pool.quirks),
            timeout,
            begun: now,
            last_received: now,
        }
    }

    /// Resolves when the way to the upstream is about to end: a stream that belongs to no call is opened anew then. A call's is
    /// read to its end.
    pub(in crate::upstream) fn retired(&self) -> impl Future<Output = ()> + use<> {
        let retirement = self.connection.as_ref().and_then(PooledConnection::retirement);
        async move {
            match retirement {
                Some(retirement) => retirement.cancelled().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Whether its connection carried another request before, of which a late response could be read in the place of this one.
    pub(in crate::upstream) fn is_reused(&self) -> bool {
        self.reused
    }

    /// What its `Content-Type` says that its body is.
    pub(in crate::upstream) fn label(&self) -> Option<Media> {
        label(self.content_type())
    }

    /// Its `Content-Type`.
    pub(in crate::upstream) fn content_type(&self) -> Option<&[u8]> {
        self.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes)
    }

    /// What its body is: by its label, unless its first bytes say otherwise, which are kept for the next reader; `None` where
    /// neither tells. Those of a stream of events are not waited for: whoever reads it looks at them.
    pub(in crate::upstream) async fn media(&mut self) -> Result<Option<Media>, Fault> {
        let label = self.label();
        if label == Some(Media::Events) {
            return Ok(label);
        }
        let (mut first, mut ended) = (Bytes::new(), false);
        let told = loop {
            if let Some(told) = tell(label, &first, ended) {
                break told;
            }
            match self.chunk_since(self.begun).await? {
                None => ended = true,
                Some(chunk) if first.is_empty() => first = chunk,
                Some(chunk) => first = [&first[..], &chunk].concat().into(),
            }
        };
        self.put_back(first);
        Ok(match told {
            Told::Labelled(media) => Some(media),
            Told::Mislabelled(media) => {
                self.note_label();
                Some(media)
            }
            Told::Neither => None,
        })
    }

    /// Notes that its body is not what its label says.
    #[cold]
    pub(in crate::upstream) fn note_label(&self) {
        let label = String::from_utf8_lossy(self.content_type().unwrap_or_default());
        self.quirks.note(Quirk::WrongLabel, format!("content type {label:?}"));
    }

    /// What was read of the body for the next reader.
    pub(in crate::upstream) fn first_bytes(&self) -> &[u8] {
        self.buffered.as_deref().unwrap_or_default()
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
        self.begun = Instant::now();
        self.last_received = self.begun;
    }

    /// Returns the next chunk, or `None` at the end. Cancel safe: the timeout goes on from the last chunk.
    pub(in crate::upstream) async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        if let Some(buffered) = self.buffered.take() {
            return Ok(Some(buffered));
        }
        loop {
            if let Some(decoded) = self.decode().await? {
                return Ok(Some(decoded));
            }
            if self.has_ended {
                return Ok(None);
            }
            let left = self.timeout.saturating_sub(self.last_received.elapsed());
            let frame = tokio::time::timeout(left, self.body.frame()).await.map_err(|_| Fault::Timeout)?;
            self.last_received = Instant::now();
            match frame {
                None => self.end(),
                Some(Err(_)) => return Err(Fault::Interrupted),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let Some(decoding) = &mut self.decoding else { return Ok(Some(data)) };
                    decoding.feed(data)?;
                }
            }
        }
    }

    /// The body has ended: its connection is free for others.
    fn end(&mut self) {
        self.has_ended = true;
        if let Some(connection) = self.connection.take() {
            connection.release();
        }
        if let Some(decoding) = &mut self.decoding {
            decoding.end();
        }
    }

    /// Returns the next part of what came, decompressed; `None` when there is no more of it.
    async fn decode(&mut self) -> Result<Option<Bytes>, Fault> {
        let Some(decoding) = &mut self.decoding else { return Ok(None) };
        loop {
            // A chunk may come to very much, and the worker has other calls.
            tokio::task::yield_now().await;
            match decoding.step()? {
                Some(part) if part.is_empty() => {}
                part => return Ok(part),
            }
        }
    }

    /// A message of so many bytes was among the chunks.
    pub(in crate::upstream) fn message_taken(&mut self, bytes: usize) {
        if let Some(decoding) = &mut self.decoding {
            decoding.message_taken(bytes);
        }
    }

    /// Returns the next chunk of a body that began at `begun`: all of it must come within the timeout, and not only the next
    /// chunk.
    async fn chunk_since(&mut self, begun: Instant) -> Result<Option<Bytes>, Fault> {
        self.last_received = begun;
        self.chunk().await
    }

    /// Keeps bytes that were read for the next reader.
    fn put_back(&mut self, read: Bytes) {
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
        while let Some(data) = self.chunk_since(self.begun).await? {
            buffered.push(data).map_err(|error| match error {
                BufferError::TooLarge => Fault::TooLarge,
                BufferError::OverBudget => Fault::OverBudget,
            })?;
        }
        Ok(buffered.finish())
    }

    /// Reads what comes of the body within the timeout, `limit` bytes at most: whatever goes wrong is its end.
    pub(in crate::upstream) async fn read_what_comes(&mut self, limit: usize) -> Bytes {
        let pool = self.connection.as_ref().map(PooledConnection::pool);
        let Some(pool) = pool else { return self.buffered.take().unwrap_or_default() };
        let mut buffered = BufferedBody::within(limit, || pool.reservation());
        while let Ok(Some(data)) = self.chunk_since(self.begun).await
            && buffered.push(data).is_ok()
        {}
        buffered.finish()
    }
}
