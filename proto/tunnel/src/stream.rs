//! One stream of a tunnel, as bytes. It must not know which side it is on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

/// Largest single write.
const MAX_WRITE: usize = 16 << 10;

/// A stream within a tunnel. Dropping it before its end resets it.
#[derive(Debug)]
pub struct Stream {
    send: SendStream<Bytes>,
    received: RecvStream,
    /// Bytes that were received and not read.
    buffered: Bytes,
    is_sent: bool,
    is_received: bool,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Stream {
    pub(crate) fn new(
        send: SendStream<Bytes>,
        received: RecvStream,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { send, received, buffered: Bytes::new(), is_sent: false, is_received: false, _slot: slot }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.buffered.is_empty() {
            match ready!(self.received.poll_data(cx)) {
                Some(Ok(chunk)) => self.buffered = chunk,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => {
                    self.is_received = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let length = self.buffered.len().min(buffer.remaining());
        buffer.put_slice(&self.buffered[..length]);
        self.buffered.advance(length);
        let released = self.received.flow_control().release_capacity(length);
        Poll::Ready(released.map_err(io::Error::other))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let wanted = bytes.len().min(MAX_WRITE);
        self.send.reserve_capacity(wanted);
        // Nothing is queued beyond the far side's window, so that a reader that does not keep up takes no memory.
        let granted = match ready!(self.send.poll_capacity(cx)) {
            Some(Ok(granted)) => granted.min(wanted),
            Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        let sent = self.send.send_data(Bytes::copy_from_slice(&bytes[..granted]), false);
        Poll::Ready(sent.map(|()| granted).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.is_sent, true) {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.is_sent || !self.is_received {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}
