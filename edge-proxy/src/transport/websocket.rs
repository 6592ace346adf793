//! WebSocket without its socket: the handshake, and what a frame says. It must not know who is calling or what is said.

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
use crate::observe::Ending;

/// The subprotocol that MCP is spoken in.
pub const SUBPROTOCOL: &str = "mcp";
/// What stands before a ticket where it is offered as a subprotocol.
const TICKET: &str = "mcp.auth.";
/// What is read and written at once; more is allocated when needed.
const BUFFER: usize = 8 << 10;

/// What a request for a WebSocket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    accept: String,
    speaks_mcp: bool,
    /// The ticket it comes with.
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
            speaks_mcp: offered().any(|name| name == SUBPROTOCOL),
            ticket: offered().find_map(|name| name.strip_prefix(TICKET)).map(str::to_owned),
        })
    }

    /// The answer with which the protocol changes.
    pub fn answer(&self) -> Result<Response<Body>, Failure> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        let accept =
            HeaderValue::from_str(&self.accept).map_err(|error| Failure::Internal(error.to_string()))?;
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        if self.speaks_mcp {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        Ok(response)
    }
}

/// The elements of a header that is a list, however many lines it has.
fn lists<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// What frames may be, for messages of at most so many bytes.
pub fn config(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
}

/// What was read from a socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Message(Bytes),
    /// That the client is there.
    Alive,
    /// Nothing more, and why.
    End(Ending),
}

/// What a frame, or the lack of one, says. One frame of text is one message.
pub fn heard(read: Option<Result<Frame, Error>>) -> Heard {
    match read {
        Some(Ok(Frame::Text(text))) => Heard::Message(text.into()),
        Some(Ok(Frame::Binary(_))) => Heard::End(Ending::Binary),
        Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => Heard::Alive,
        Some(Ok(Frame::Close(_))) | None => Heard::End(Ending::Client),
        Some(Err(Error::Capacity(CapacityError::MessageTooLong { .. }))) => Heard::End(Ending::TooLarge),
        Some(Err(Error::Utf8(_))) => Heard::End(Ending::Encoding),
        Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => Heard::End(Ending::Client),
        Some(Err(Error::Protocol(_))) => Heard::End(Ending::Malformed),
        Some(Err(_)) => Heard::End(Ending::Client),
    }
}

/// The code and the words with which a connection is closed. A conversation that the edge cuts short can begin anew at
/// once; a client without one just goes elsewhere.
pub fn close(ending: Ending, in_conversation: bool) -> (CloseCode, &'static str) {
    match ending {
        Ending::Client => (CloseCode::Normal, ""),
        Ending::Drain if in_conversation => (CloseCode::Restart, "this edge is stopping; connect again"),
        Ending::Drain => (CloseCode::Away, "this edge is stopping; connect again"),
        Ending::Unauthorized => (CloseCode::Policy, "the token is not valid here any more"),
        Ending::NotReading => (CloseCode::Again, "messages were not read"),
        Ending::Silent => (CloseCode::Away, "pings were not answered"),
        Ending::Binary => (CloseCode::Unsupported, "messages are frames of text"),
        Ending::TooLarge => (CloseCode::Size, "the message is too large"),
        Ending::Malformed => (CloseCode::Protocol, "the frame is not WebSocket"),
        Ending::Encoding => (CloseCode::Invalid, "the text is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(
                (handshake.speaks_mcp, handshake.ticket.as_deref()),
                (speaks_mcp, ticket),
                "{offered:?}"
            );
            let answer = handshake.answer().unwrap();
            // The example of RFC 6455, section 1.3.
            assert_eq!(answer.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            let selected = answer.headers().get(SEC_WEBSOCKET_PROTOCOL).map(|value| value.to_str().unwrap());
            assert_eq!(selected, speaks_mcp.then_some("mcp"));
        }
    }

    #[test]
    fn what_asks_for_no_websocket_is_told_what_to_ask_for() {
        for gone in ["connection", "upgrade", "sec-websocket-version", "sec-websocket-key"] {
            let mut headers = headers(&[]);
            headers.remove(gone);
            assert_eq!(Handshake::read(&headers), Err(Failure::Upgrade), "{gone}");
        }
    }

    #[test]
    fn only_text_is_a_message() {
        assert_eq!(heard(Some(Ok(Frame::text("{}")))), Heard::Message(Bytes::from_static(b"{}")));
        assert_eq!(heard(Some(Ok(Frame::binary("{}")))), Heard::End(Ending::Binary));
        assert_eq!(heard(Some(Ok(Frame::Pong(Bytes::new())))), Heard::Alive);
        assert_eq!(heard(None), Heard::End(Ending::Client));
    }
}
