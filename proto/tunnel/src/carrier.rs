//! The frames of a WebSocket as one run of bytes each way. It must not know whose WebSocket it is.

use std::io;

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

/// What is written to the result becomes frames of `sink`; what the frames of `source` hold is read from it. Where a frame
/// ends means nothing.
pub fn carrier(
    source: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    sink: impl Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
    tokio::io::join(StreamReader::new(source), SinkWriter::new(CopyToBytes::new(sink)))
}
