//! WebSocket without its socket: the handshake and the frames. It must not know the caller or what messages say.

use bytes::Bytes;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Message as Frame, WebSocketConfig};

use super::Body;
use crate::error::Failure;
use crate::observe::CloseReason;

/// The subprotocol of MCP.
pub const SUBPROTOCOL: &str = "mcp";
/// The prefix of a ticket that is offered as a subprotocol.
const TICKET: &str = "mcp.auth.";
/// The size of the buffers; more is allocated when needed.
const BUFFER: usize = 8 << 10;

/// A request for a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    accept: String,
    offered: Vec<String>,
    /// The ticket that it offers.
    pub ticket: Option<String>,
}

impl Handshake {
    /// Reads the headers of a request.
    pub fn read(headers: &HeaderMap) -> Result<Self, Failure> {
        let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
        let asks = lists(headers, CONNECTION.as_str()).any(|word| word.eq_ignore_ascii_case("upgrade"))
            && lists(headers, UPGRADE.as_str()).any(|word| word.eq_ignore_ascii_case("websocket"))
            && headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
        let key = key.filter(|_| asks).ok_or(Failure::Upgrade)?;
        let offered = || lists(headers, SEC_WEBSOCKET_PROTOCOL.as_str());
        Ok(Self {
            accept: derive_accept_key(key.as_bytes()),
            offered: offered().map(str::to_owned).collect(),
            ticket: offered().find_map(|name| name.strip_prefix(TICKET)).map(str::to_owned),
        })
    }

    /// Makes the response that changes the protocol, to this subprotocol if it was offered.
    pub fn accept(&self, subprotocol: &'static str) -> Result<Response<Body>, Failure> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        let accept =
            HeaderValue::from_str(&self.accept).map_err(|error| Failure::Internal(error.to_string()))?;
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        if self.offered.iter().any(|offered| offered == subprotocol) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
        }
        Ok(response)
    }
}

/// The elements of a header that is a list, over all its lines.
fn lists<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// The configuration for messages of at most so many bytes.
pub fn config(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
}

/// An event on a socket.
#[derive(Debug, PartialEq, Eq)]
pub enum FrameEvent {
    /// A message.
    Message(Bytes),
    /// A sign of life.
    Alive,
    /// The end, and its reason.
    End(CloseReason),
}

/// Reads a frame, or the end of the stream. One frame is one message: of text, as messages are, or binary, which some
/// clients send. Whether that is UTF-8 is seen when it is read.
pub fn frame_event(read: Option<Result<Frame, Error>>) -> FrameEvent {
    match read {
        Some(Ok(Frame::Text(text))) => FrameEvent::Message(text.into()),
        Some(Ok(Frame::Binary(bytes))) => FrameEvent::Message(bytes),
        Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => FrameEvent::Alive,
        Some(Ok(Frame::Close(_))) | None => FrameEvent::End(CloseReason::Client),
        Some(Err(Error::Capacity(CapacityError::MessageTooLong { .. }))) => {
            FrameEvent::End(CloseReason::TooLarge)
        }
        Some(Err(Error::Utf8(_))) => FrameEvent::End(CloseReason::Encoding),
        Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
            FrameEvent::End(CloseReason::Client)
        }
        Some(Err(Error::Protocol(_))) => FrameEvent::End(CloseReason::Malformed),
        Some(Err(_)) => FrameEvent::End(CloseReason::Client),
    }
}

/// The code and the reason of a close frame. A client whose conversation the edge ends can begin another at once;
/// one without a conversation just connects elsewhere.
pub fn close(ending: CloseReason, in_conversation: bool) -> (CloseCode, &'static str) {
    match ending {
        CloseReason::Client => (CloseCode::Normal, ""),
        CloseReason::Drain if in_conversation => (CloseCode::Restart, "this edge is stopping; reconnect"),
        CloseReason::Drain => (CloseCode::Away, "this edge is stopping; reconnect"),
        CloseReason::Unauthorized => (CloseCode::Policy, "the token is no longer valid"),
        CloseReason::NotReading => (CloseCode::Again, "the client does not read messages"),
        CloseReason::Silent => (CloseCode::Away, "the client does not respond to pings"),
        CloseReason::TooLarge => (CloseCode::Size, "the message is too large"),
        CloseReason::Malformed => (CloseCode::Protocol, "invalid WebSocket frame"),
        CloseReason::Encoding => (CloseCode::Invalid, "the text is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

    use super::*;

    fn headers(more: &[(&'static str, &'static str)]) -> HeaderMap {
        let asked = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in asked.iter().chain(more) {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_subprotocol_is_selected_if_offered_and_a_ticket_is_never_echoed() {
        for (offered, speaks_mcp, ticket) in [
            (&[][..], false, None),
            (&[("sec-websocket-protocol", "mcp")][..], true, None),
            (&[("sec-websocket-protocol", "mcp, mcp.auth.T-1")][..], true, Some("T-1")),
            (
                &[("sec-websocket-protocol", "other"), ("sec-websocket-protocol", "mcp.auth.x")][..],
                false,
                Some("x"),
            ),
        ] {
            let handshake = Handshake::read(&headers(offered)).unwrap();
            assert_eq!(handshake.ticket.as_deref(), ticket, "{offered:?}");
            let answer = handshake.accept(SUBPROTOCOL).unwrap();
            // The example of RFC 6455, section 1.3.
            assert_eq!(answer.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            let selected = answer.headers().get(SEC_WEBSOCKET_PROTOCOL).map(|value| value.to_str().unwrap());
            assert_eq!(selected, speaks_mcp.then_some("mcp"));
        }
    }

    #[test]
    fn a_request_without_an_upgrade_receives_the_headers_to_send() {
        for gone in ["connection", "upgrade", "sec-websocket-version", "sec-websocket-key"] {
            let mut headers = headers(&[]);
            headers.remove(gone);
            assert_eq!(Handshake::read(&headers), Err(Failure::Upgrade), "{gone}");
        }
    }

    /// Bytes to read, and a writer that discards.
    struct Wire<'a>(&'a [u8]);

    impl Read for Wire<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Wire<'_> {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The events that a server reads from these bytes.
    fn all_events(bytes: &[u8], max_message: usize) -> Vec<FrameEvent> {
        let mut socket = WebSocket::from_raw_socket(Wire(bytes), Role::Server, Some(config(max_message)));
        let mut all = Vec::new();
        while !matches!(all.last(), Some(FrameEvent::End(_))) {
            assert!(all.len() <= bytes.len(), "no end of {bytes:?}");
            all.push(frame_event(Some(socket.read())));
        }
        all
    }

    /// A masked frame of a client.
    fn frame(opcode: u8, last: bool, payload: &[u8]) -> Vec<u8> {
        assert!(payload.len() < 126);
        let mut bytes = vec![opcode | if last { 0x80 } else { 0 }, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn fragments_are_one_message_and_each_lie_has_its_end() {
        let message = |text: &'static str| FrameEvent::Message(Bytes::from_static(text.as_bytes()));
        let fragments = [frame(1, false, b"{\"a\""), frame(9, true, b""), frame(0, true, b":1}")].concat();
        assert_eq!(
            all_events(&fragments, 100),
            [FrameEvent::Alive, message("{\"a\":1}"), FrameEvent::End(CloseReason::Client)]
        );
        for (bytes, ending) in [
            (frame(1, true, b"\xff"), CloseReason::Encoding),
            (frame(1, true, &[b'x'; 101]), CloseReason::TooLarge),
            ([frame(1, false, &[b'x'; 60]), frame(0, true, &[b'x'; 60])].concat(), CloseReason::TooLarge),
            (frame(0, true, b"{}"), CloseReason::Malformed),
            (frame(3, true, b"{}"), CloseReason::Malformed),
            (b"\x81\x02{}".to_vec(), CloseReason::Malformed),
            (frame(8, true, b""), CloseReason::Client),
            (Vec::new(), CloseReason::Client),
        ] {
            assert_eq!(all_events(&bytes, 100), [FrameEvent::End(ending)], "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_messages_are_bounded_and_there_is_an_end(bytes: Vec<u8>, opcode in 0u8..16, last: bool) {
            let framed = frame(opcode, last, &bytes[..bytes.len().min(125)]);
            for bytes in [&bytes, &framed, &[framed.clone(), bytes.clone()].concat()] {
                for frame_event in all_events(bytes, 100) {
                    if let FrameEvent::Message(message) = frame_event {
                        prop_assert!(message.len() <= 100);
                    }
                }
            }
        }
    }

    #[test]
    fn text_and_binary_frames_are_messages() {
        for frame in [Frame::text("{}"), Frame::binary("{}")] {
            assert_eq!(frame_event(Some(Ok(frame))), FrameEvent::Message(Bytes::from_static(b"{}")));
        }
        assert_eq!(frame_event(Some(Ok(Frame::Pong(Bytes::new())))), FrameEvent::Alive);
        assert_eq!(frame_event(None), FrameEvent::End(CloseReason::Client));
    }
}
