//! Whatever bytes come after the handshake, what is taken for a message has at most the size that is allowed, and
//! the end comes.

use std::io::{self, Read, Write};

use mcp::message::{Envelope, split_batch};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};
use trunkline_edge_proxy::error::ErrorContext;
use trunkline_edge_proxy::transport::Message;
use trunkline_edge_proxy::transport::websocket::{FrameEvent, config, frame_event};

const MAX_MESSAGE: usize = 1 << 10;

/// Bytes to read, and nobody who reads what is written.
struct Bytes<'a>(&'a [u8]);

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Bytes<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn check(frames: &[u8]) {
    let mut socket = WebSocket::from_raw_socket(Bytes(frames), Role::Server, Some(config(MAX_MESSAGE)));
    // A frame is two bytes at least.
    for _ in 0..=frames.len() {
        match frame_event(Some(socket.read())) {
            FrameEvent::Message(body) => {
                assert!(body.len() <= MAX_MESSAGE);
                let _parts = split_batch(&body);
                if let Ok(envelope) = Envelope::parse(&body) {
                    let _message = Message::new(&body, envelope, &mut ErrorContext::default());
                }
            }
            FrameEvent::Alive => {}
            FrameEvent::End(_) => return,
        }
    }
    panic!("no end of {} bytes", frames.len());
}
