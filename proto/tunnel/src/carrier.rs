//! The frames of a WebSocket as one run of bytes each way. It must not know how the WebSocket came about.

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use crate::budget::Budgeted;
use crate::{MAX_FRAME, READ_BUFFER};

/// Bytes that wait to be written: pongs would pile up where the other side pings and does not read.
const MAX_WRITE_BUFFER: usize = 8 * MAX_FRAME;

/// Joins frames into a byte stream: bytes written to it become frames of `sink`, and the content of the frames of
/// `source` is read from it. Frame boundaries have no meaning. A frame that brings nothing, a ping, is an empty one:
/// whoever sends too many frames without payload is cut off with an error of the kind `QuotaExceeded`.
pub fn carrier(
    source: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    sink: impl Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
    let sent = Arc::new(AtomicUsize::new(0));
    let source = Budgeted::new(source, Arc::clone(&sent));
    let sink = sink.with(move |bytes: Bytes| {
        sent.fetch_add(bytes.len(), Ordering::Relaxed);
        ready(io::Result::Ok(bytes))
    });
    tokio::io::join(StreamReader::new(source), SinkWriter::new(CopyToBytes::new(sink)))
}

/// Joins the frames of a WebSocket on `socket`, of which `ahead` was read already.
pub async fn websocket(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    role: Role,
    buffered: Vec<u8>,
) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
    let limits = WebSocketConfig::default()
        .write_buffer_size(0)
        .read_buffer_size(READ_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME));
    let frames = WebSocketStream::from_partially_read(socket, buffered, role, Some(limits)).await;
    let (sink, source) = frames.split();
    let sink = sink.sink_map_err(io::Error::other);
    let sink = sink.with(|bytes| ready(io::Result::Ok(Message::Binary(bytes))));
    carrier(source.map(content), sink)
}

/// Returns the content of a frame.
fn content(frame: Result<Message, Error>) -> io::Result<Bytes> {
    match frame {
        Ok(Message::Binary(bytes)) => Ok(bytes),
        Ok(Message::Text(_)) => Err(io::ErrorKind::InvalidData.into()),
        Ok(_) => Ok(Bytes::new()),
        Err(error) => Err(io::Error::other(error)),
    }
}
