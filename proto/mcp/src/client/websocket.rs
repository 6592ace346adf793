//! WebSocket: one message is one text frame, and the connection is the session.
//!
//! It must not know what messages say. The convention is that of the first SDKs; see their `WebSocketClientTransport`.

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Upgraded;
use tokio::sync::Mutex;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::MAX_MESSAGE_BYTES;
use super::error::ClientError;
use super::http::HttpClient;
use super::rpc::outbound;
use crate::quirk::Quirk;
use crate::secrets::Secrets;

/// The subprotocol. Servers that do not know it are accepted as well.
pub const SUBPROTOCOL: &str = "mcp";
/// Interval of pings; two without any frame in between end the connection.
const PING: Duration = Duration::from_secs(30);
/// Longest wait for the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type Stream = WebSocketStream<Upgraded>;

/// The sending side.
#[derive(Clone)]
pub(super) struct Socket(Arc<Mutex<SplitSink<Stream, Message>>>);

/// The receiving side, with pings that detect a dead connection.
pub(super) struct Frames {
    stream: SplitStream<Stream>,
    socket: Socket,
    secrets: Arc<Secrets>,
    ticks: Interval,
    silent: bool,
    /// Whether the server chose the subprotocol.
    pub(super) has_subprotocol: bool,
}

/// Opens a WebSocket.
pub(super) async fn open(http: &HttpClient) -> Result<(Socket, Frames), ClientError> {
    let key = generate_key();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let accept = derive_accept_key(key.as_bytes());
    headers.extend(HeaderValue::try_from(key).map(|key| (header::SEC_WEBSOCKET_KEY, key)));
    let response = http.send(outbound(Method::GET, headers, Bytes::new())).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status().as_u16();
        http.expect_success(response).await?;
        let excerpt = "the response is no WebSocket upgrade".to_owned();
        return Err(ClientError::Http { status, excerpt });
    }
    let malformed = |what: &str| Err(ClientError::Protocol(format!("the WebSocket handshake has {what}")));
    if response.headers().get(header::SEC_WEBSOCKET_ACCEPT).is_none_or(|found| *found != *accept) {
        return malformed("a Sec-WebSocket-Accept that does not match");
    }
    let chosen = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
    let has_subprotocol = chosen.is_some();
    if chosen.is_some_and(|chosen| chosen != SUBPROTOCOL) {
        return malformed("a subprotocol that was not offered");
    }
    let upgraded = response.upgrade().await.map_err(|error| ClientError::Broken(error.to_string()))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let stream = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
    let (sink, stream) = stream.split();
    let socket = Socket(Arc::new(Mutex::new(sink)));
    let mut ticks = interval(PING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let secrets = Arc::clone(&http.secrets);
    Ok((socket.clone(), Frames { stream, socket, secrets, ticks, silent: false, has_subprotocol }))
}

impl Socket {
    pub(super) async fn send(&self, message: Bytes) -> Result<(), ClientError> {
        let text =
            message.try_into().map_err(|_| ClientError::Protocol("a message is not UTF-8".to_owned()))?;
        self.frame(Message::Text(text)).await
    }

    /// Sends a closing frame; a failure is only logged.
    pub(super) async fn close(&self) {
        if let Ok(Err(error)) = timeout(CLOSE_TIMEOUT, self.frame(Message::Close(None))).await {
            tracing::debug!(%error, "cannot close a WebSocket");
        }
    }

    async fn frame(&self, frame: Message) -> Result<(), ClientError> {
        self.0.lock().await.send(frame).await.map_err(broken)
    }
}

impl Frames {
    /// The next message; an error at the end.
    pub(super) async fn next(&mut self, http: &HttpClient) -> Result<Bytes, ClientError> {
        loop {
            let frame = tokio::select! {
                frame = self.stream.next() => frame,
                _ = self.ticks.tick() => {
                    if std::mem::replace(&mut self.silent, true) {
                        return Err(ClientError::Broken("the server does not respond to pings".to_owned()));
                    }
                    self.socket.frame(Message::Ping(Bytes::new())).await?;
                    continue;
                }
            };
            self.silent = false;
            match frame {
                None => return Err(ClientError::Broken("the connection was closed".to_owned())),
                Some(Err(error)) => return Err(broken(error)),
                Some(Ok(Message::Text(text))) if text.is_empty() => {}
                Some(Ok(Message::Text(text))) => return Ok(text.into()),
                // Those that are no text are passed over as texts that are no message are.
                Some(Ok(Message::Binary(bytes))) => {
                    http.quirks.note(Quirk::BinaryFrames, || http.quoted(&bytes, 0));
                    return Ok(bytes);
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    let why = self.secrets.excerpt(&frame.reason);
                    let code = u16::from(frame.code);
                    return Err(ClientError::Broken(format!("closed by the server: {code} ({why})")));
                }
                Some(Ok(_)) => {}
            }
        }
    }
}

fn broken(error: Error) -> ClientError {
    match error {
        Error::Capacity(_) => ClientError::TooLarge { limit: MAX_MESSAGE_BYTES },
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            ClientError::Broken("the connection was closed".to_owned())
        }
        Error::Protocol(error) => ClientError::Protocol(error.to_string()),
        error => ClientError::Broken(error.to_string()),
    }
}
