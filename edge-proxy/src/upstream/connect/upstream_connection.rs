//! One HTTP/1.1 connection to an upstream, with one request at a time. It must not know which are kept, nor for how long.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::Retry;
use crate::error::Fault;

/// Largest head of a response.
const MAX_HEAD: usize = 256 << 10;

/// A connection that was opened.
pub(super) struct UpstreamConnection {
    pub sender: SendRequest<Full<Bytes>>,
    pub opened: Instant,
    /// Set when the way to the upstream is about to end, where it leads through another edge. A request that was sent is
    /// answered still.
    pub retired: Option<CancellationToken>,
    /// The time when it ended.
    ended: Rc<Cell<Option<Instant>>>,
}

/// A connection without a request.
pub(super) struct IdleConnection {
    pub connection: UpstreamConnection,
    pub since: Instant,
    /// The kind of the request before.
    pub after: Retry,
}

impl UpstreamConnection {
    /// Begins HTTP on a stream of bytes.
    pub(super) async fn begin(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, Fault> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| fault_of(&error))?;
        let ended = Rc::new(Cell::new(None));
        let note_end = Rc::clone(&ended);
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "an upstream connection ended early");
            }
            note_end.set(Some(Instant::now()));
        });
        Ok(Self { sender, opened: Instant::now(), retired: None, ended })
    }

    /// Whether no further request is to be sent on it.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.as_ref().is_some_and(CancellationToken::is_cancelled)
    }
}

impl IdleConnection {
    /// The time for which it was open without a request; until now, if it still is.
    pub(super) fn lasted(&self) -> Duration {
        let ended = self.connection.ended.get().unwrap_or_else(Instant::now);
        ended.saturating_duration_since(self.since)
    }
}

/// Whether the connection ended before any of the response came.
pub(super) fn closed_before_response(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_canceled() || error.is_closed()
}

pub(super) fn fault_of(error: &hyper::Error) -> Fault {
    if error.is_parse_too_large() {
        Fault::TooLarge
    } else if error.is_parse() {
        Fault::Malformed(error.to_string())
    } else {
        Fault::Interrupted
    }
}
