//! Streams of bytes to upstreams whose tunnels end at a sibling, at both ends. It must not know what the bytes are.

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
use trunkline::edge::v1::{OpenTunnelStreamRequest, OpenTunnelStreamResponse};

use super::sibling_clients::SiblingClients;

/// The time limit of opening a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// Chunks that wait to be sent.
const MAX_WAITING: usize = 8;
/// The largest chunk.
const CHUNK: usize = 32 << 10;

/// A connection to an upstream through a sibling.
pub struct SiblingStream {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    writer: Pin<Box<dyn AsyncWrite + Send>>,
}

/// The reason that an upstream cannot be reached through a sibling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiblingError {
    /// The sibling has no tunnel to it.
    NoTunnel,
    /// The sibling cannot be reached itself, or is gone.
    Unreachable,
}

/// Opens a stream through `edge`. To be called on the runtime of the fleet.
pub(super) async fn open(
    sibling_clients: &SiblingClients,
    edge: &str,
    upstream: &str,
) -> Result<SiblingStream, SiblingError> {
    let mut client = sibling_clients.tunnels_through(edge).ok_or(SiblingError::Unreachable)?;
    let (sender, requests) = mpsc::channel(MAX_WAITING);
    let first = OpenTunnelStreamRequest { upstream: upstream.to_owned(), chunk: Vec::new() };
    let requests = stream::once(async { first }).chain(ReceiverStream::new(requests));
    let opened = tokio::time::timeout(OPEN_TIMEOUT, client.open_tunnel_stream(requests)).await;
    let answered =
        opened.map_err(|_| SiblingError::Unreachable)?.map_err(|status| sibling_error(edge, &status))?;
    Ok(SiblingStream::new(answered.into_inner(), sender))
}

fn sibling_error(edge: &str, status: &Status) -> SiblingError {
    if status.code() == Code::NotFound {
        return SiblingError::NoTunnel;
    }
    tracing::debug!(edge, %status, "an upstream cannot be reached through another edge");
    SiblingError::Unreachable
}

impl SiblingStream {
    fn new(
        answered: Streaming<OpenTunnelStreamResponse>,
        sender: mpsc::Sender<OpenTunnelStreamRequest>,
    ) -> Self {
        let chunks = answered.map(|part| part.map(|part| Bytes::from(part.chunk)).map_err(io::Error::other));
        let sink = PollSender::new(sender).sink_map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
        let sink = sink.with(|chunk: Bytes| {
            std::future::ready(io::Result::Ok(OpenTunnelStreamRequest {
                upstream: String::new(),
                chunk: chunk.into(),
            }))
        });
        Self {
            reader: Box::pin(StreamReader::new(chunks)),
            writer: Box::pin(SinkWriter::new(CopyToBytes::new(sink))),
        }
    }
}

impl AsyncRead for SiblingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reader.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for SiblingStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // What is larger would be one message, and messages are bounded.
        let part = &bytes[..bytes.len().min(CHUNK)];
        self.writer.as_mut().poll_write(cx, part)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_shutdown(cx)
    }
}

/// Copies what a sibling sends into a tunnel of this edge, and streams back what comes out of it.
pub(super) fn relay(
    sent: Streaming<OpenTunnelStreamRequest>,
    tunnelled: tunnel::Stream,
) -> impl Stream<Item = Result<OpenTunnelStreamResponse, Status>> + Send {
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
    ReaderStream::with_capacity(reader, CHUNK).map(move |chunk| {
        // Dropped with this stream, so that what was being sent takes no more room in the connection.
        let _ = &sending;
        match chunk {
            Ok(chunk) => Ok(OpenTunnelStreamResponse { chunk: chunk.into() }),
            Err(error) => Err(Status::aborted(error.to_string())),
        }
    })
}
