//! The stream that HTTP is read from and written to: its peer sends strict line ends, and must read.

use std::time::Duration;

use hyper_util::rt::TokioIo;

use crate::line_endings::StrictLines;
use crate::write_timeout::WriteTimeout;

/// The stream that the HTTP of a client is read from and written to.
pub type ClientIo<S> = TokioIo<WriteTimeout<StrictLines<S>>>;

/// Makes it of a stream, whose peer has `timeout` to read.
pub fn client_io<S>(stream: S, timeout: Duration) -> ClientIo<S> {
    TokioIo::new(WriteTimeout::new(StrictLines::new(stream), timeout))
}

/// Takes the stream out again.
pub fn into_stream<S>(io: ClientIo<S>) -> S {
    io.into_inner().into_inner().into_inner()
}
