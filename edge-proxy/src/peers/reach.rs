//! Streams of bytes to upstreams whose tunnels another edge holds, at both ends. It must not know what the bytes say.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, Stream, StreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{CopyToBytes, ReaderStream, SinkWriter, StreamReader};
use tokio_util::sync::PollSender;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, Streaming};
use trunkline::edge::v1::{ReachRequest, ReachResponse};

use super::channels::Channels;

/// How long opening one may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Parts that wait to be sent.
const MAX_WAITING: usize = 8;
/// The largest part that is read at once.
const PART: usize = 32 << 10;

/// A connection to an upstream, through another edge.
pub struct Reached {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    writer: Pin<Box<dyn AsyncWrite + Send>>,
}

/// Why an upstream cannot be reached through another edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreached {
    /// That edge has no tunnel to it.
    Closed,
    /// That edge cannot be reached itself, or is gone.
    Away,
}

/// Opens a stream through `edge`. To be called on the runtime of the peers.
pub(super) async fn open(channels: &Channels, edge: &str, upstream: &str) -> Result<Reached, Unreached> {
    let mut client = channels.through(edge).ok_or(Unreached::Away)?;
    let (sender, parts) = mpsc::channel(MAX_WAITING);
    let first = ReachRequest { upstream: upstream.to_owned(), chunk: Vec::new() };
    let parts = stream::once(async { first }).chain(ReceiverStream::new(parts));
    let opened = tokio::time::timeout(PATIENCE, client.reach(parts)).await;
    let answered = opened.map_err(|_| Unreached::Away)?.map_err(|status| unreached(edge, &status))?;
    Ok(Reached::new(answered.into_inner(), sender))
}

fn unreached(edge: &str, status: &Status) -> Unreached {
    if status.code() == Code::NotFound {
        return Unreached::Closed;
    }
    tracing::debug!(edge, %status, "an upstream cannot be reached through another edge");
    Unreached::Away
}

impl Reached {
    fn new(answered: Streaming<ReachResponse>, sender: mpsc::Sender<ReachRequest>) -> Self {
        let chunks = answered.map(|part| part.map(|part| Bytes::from(part.chunk)).map_err(io::Error::other));
        let sink = PollSender::new(sender).sink_map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
        let sink = sink.with(|chunk: Bytes| {
            std::future::ready(io::Result::Ok(ReachRequest { upstream: String::new(), chunk: chunk.into() }))
        });
        Self {
            reader: Box::pin(StreamReader::new(chunks)),
            writer: Box::pin(SinkWriter::new(CopyToBytes::new(sink))),
        }
    }
}

impl AsyncRead for Reached {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reader.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Reached {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // What is larger would be one message, and messages are bounded.
        let part = &bytes[..bytes.len().min(PART)];
        self.writer.as_mut().poll_write(cx, part)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_shutdown(cx)
    }
}

/// Moves what another edge sends into a tunnel of this one, and gives back what comes out of it.
pub(super) fn relay(
    sent: Streaming<ReachRequest>,
    tunnelled: tunnel::Stream,
) -> impl Stream<Item = Result<ReachResponse, Status>> + Send {
    let (reader, mut writer) = tokio::io::split(tunnelled);
    let sending = AbortOnDropHandle::new(tokio::spawn(async move {
        let chunks = sent.map(|part| part.map(|part| Bytes::from(part.chunk)).map_err(io::Error::other));
        let copied = tokio::io::copy_buf(&mut StreamReader::new(chunks), &mut writer).await;
        // Either way nothing more comes, and the upstream is told so.
        let closed = writer.shutdown().await;
        if let Err(error) = copied.and(closed) {
            tracing::debug!(%error, "a request from another edge to an upstream was interrupted");
        }
    }));
    ReaderStream::with_capacity(reader, PART).map(move |chunk| {
        // When the other edge goes, so does what it was sending, and takes no more room in its connection.
        let _ = &sending;
        match chunk {
            Ok(chunk) => Ok(ReachResponse { chunk: chunk.into() }),
            Err(error) => Err(Status::aborted(error.to_string())),
        }
    })
}
