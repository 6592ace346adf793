//! The framing of messages on a channel: events one way and posts the other, or frames both ways.
//!
//! It must not know what they say.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode, Uri};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use mcp::endpoint::{self, EVENT};
use mcp::sse::Decoder;
use tokio::sync::Mutex;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use url::Url;

use crate::error::Fault;
use crate::snapshot::Upstream;
use crate::upstream::connect::{HttpPool, Retry};
use crate::upstream::connect::{HttpResponse, MediaType};

/// The subprotocol of WebSockets.
const SUBPROTOCOL: &str = "mcp";
/// Longest silence of an upstream that is sent no requests.
const MAX_SILENCE: Duration = Duration::from_secs(24 * 3_600);
/// Interval of pings on a WebSocket; two without any frame in between end it.
const PING: Duration = Duration::from_secs(30);
/// Largest response to a post.
const MAX_POST_RESPONSE: usize = 64 << 10;
/// The bytes that may wait to be written besides one message: pongs pile up where an upstream pings and does not read.
const WRITE_BUFFER: usize = 2 << 20;
/// Longest wait for the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<TokioIo<Upgraded>>;
type Sink = Rc<Mutex<SplitSink<Socket, Message>>>;

/// The sending half of a channel.
#[derive(Clone)]
pub(super) enum Outgoing {
    /// Each message is posted to the URL that the upstream named.
    Post { http_pool: Rc<HttpPool>, target: Uri, timeout: Duration },
    /// Each message is a frame.
    Frame { sink: Sink, timeout: Duration },
}

/// The receiving half of a channel.
pub(super) enum Incoming {
    Events(Box<(HttpResponse, Decoder)>),
    FrameReader(FrameReader),
}

/// Received frames, and pings that detect a dead connection.
pub(super) struct FrameReader {
    stream: SplitStream<Socket>,
    sink: Sink,
    timeout: Duration,
    ticks: Interval,
    silent: bool,
}

/// Opens a stream of events, and waits for its first, which names the URL that messages are posted to.
pub(super) async fn open_event_stream(
    http_pool: &Rc<HttpPool>,
    upstream: &Upstream,
    max_message: usize,
) -> Result<(Outgoing, Incoming), Fault> {
    let mut headers = http_pool.headers.clone();
    headers.remove(CONTENT_TYPE);
    headers.insert(ACCEPT, HeaderValue::from_static(mcp::header::EVENT_STREAM));
    let response = http_pool.send(&Method::GET, headers, Bytes::new(), Retry::Safe, MAX_SILENCE).await?;
    if response.status != StatusCode::OK {
        return Err(Fault::Status(response.status.as_u16()));
    }
    if response.media_type() != MediaType::Events {
        return Err(Fault::Session("it opens no event stream".to_owned()));
    }
    let mut stream = Box::new((response, Decoder::new(max_message)));
    let first = next_event(&mut stream).await?;
    if first.event.as_deref() != Some(EVENT) {
        return Err(Fault::Session("its stream does not begin with the event `endpoint`".to_owned()));
    }
    let session = |error: String| Fault::Session(error);
    let url = upstream.credential.url(upstream.reach.url()).map_err(|error| session(error.to_string()))?;
    let base = Url::parse(&url.to_string()).map_err(|error| session(error.to_string()))?;
    let url = endpoint::resolve(&base, &first.data).map_err(|error| session(error.to_string()))?;
    let target = &url[url::Position::BeforePath..];
    let target = target.parse().map_err(|_| session("its endpoint is not a URL".to_owned()))?;
    let outgoing =
        Outgoing::Post { http_pool: Rc::clone(http_pool), target, timeout: upstream.request_timeout };
    Ok((outgoing, Incoming::Events(stream)))
}

/// Opens a WebSocket.
pub(super) async fn open_websocket(
    http_pool: &Rc<HttpPool>,
    timeout: Duration,
    max_message: usize,
) -> Result<(Outgoing, Incoming), Fault> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
        .max_write_buffer_size(http_pool.max_request().saturating_add(WRITE_BUFFER));
    let mut headers = http_pool.headers.clone();
    headers.remove(CONTENT_TYPE);
    headers.remove(ACCEPT);
    let upgraded = http_pool.upgrade(headers, SUBPROTOCOL).await?;
    let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
    let (sink, stream) = socket.split();
    let sink = Rc::new(Mutex::new(sink));
    let mut ticks = interval(PING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let frames = FrameReader { stream, sink: Rc::clone(&sink), timeout, ticks, silent: false };
    Ok((Outgoing::Frame { sink, timeout }, Incoming::FrameReader(frames)))
}

impl Outgoing {
    pub(super) async fn send(&self, message: Bytes) -> Result<(), Fault> {
        match self {
            Self::Post { http_pool, target, timeout } => {
                let headers = http_pool.headers.clone();
                let sent = http_pool
                    .send_to(target, &Method::POST, headers, message, Retry::IfUnsent, *timeout)
                    .await?;
                let status = sent.status;
                // Servers respond on the stream, not here.
                sent.collect(MAX_POST_RESPONSE).await?;
                if status.is_success() { Ok(()) } else { Err(Fault::Status(status.as_u16())) }
            }
            Self::Frame { sink, timeout } => {
                let text = message.try_into();
                let text = text.map_err(|_| Fault::Malformed("a message is not UTF-8".to_owned()))?;
                send_frame(sink, Message::Text(text), *timeout).await
            }
        }
    }

    /// The time within which the upstream takes a message.
    pub(super) fn timeout(&self) -> Duration {
        match self {
            Self::Post { timeout, .. } | Self::Frame { timeout, .. } => *timeout,
        }
    }

    /// Sends a closing frame; a failure is only logged.
    pub(super) async fn close(&self) {
        let Self::Frame { sink, .. } = self else { return };
        if let Err(fault) = send_frame(sink, Message::Close(None), CLOSE_TIMEOUT).await {
            tracing::debug!(%fault, "cannot close a WebSocket in order");
        }
    }
}

impl Incoming {
    /// Returns the next message; a fault at the end.
    pub(super) async fn next(&mut self) -> Result<Bytes, Fault> {
        match self {
            Self::FrameReader(frames) => frames.next().await,
            Self::Events(stream) => loop {
                let event = next_event(stream).await?;
                if !event.data.is_empty() && event.event.as_deref().is_none_or(|kind| kind == b"message") {
                    return Ok(event.data);
                }
            },
        }
    }
}

/// Sends a frame, after those that are being sent, within this time in all.
async fn send_frame(sink: &Sink, frame: Message, timeout: Duration) -> Result<(), Fault> {
    let sent = async { sink.lock().await.send(frame).await.map_err(|error| fault(&error)) };
    tokio::time::timeout(timeout, sent).await.unwrap_or(Err(Fault::Timeout))
}

async fn next_event((response, decoder): &mut (HttpResponse, Decoder)) -> Result<mcp::sse::Event, Fault> {
    loop {
        if let Some(event) = decoder.next().map_err(|_| Fault::TooLarge)? {
            return Ok(event);
        }
        decoder.push(response.chunk().await?.ok_or(Fault::Interrupted)?);
    }
}

impl FrameReader {
    async fn next(&mut self) -> Result<Bytes, Fault> {
        loop {
            let frame = tokio::select! {
                frame = self.stream.next() => frame,
                _ = self.ticks.tick() => {
                    if std::mem::replace(&mut self.silent, true) {
                        return Err(Fault::Interrupted);
                    }
                    send_frame(&self.sink, Message::Ping(Bytes::new()), self.timeout).await?;
                    continue;
                }
            };
            self.silent = false;
            match frame {
                Some(Ok(Message::Text(text))) => return Ok(text.into()),
                Some(Ok(Message::Binary(_))) => return Err(Fault::Malformed("a binary frame".to_owned())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(fault(&error)),
                None => return Err(Fault::Interrupted),
            }
        }
    }
}

fn fault(error: &Error) -> Fault {
    match error {
        Error::Capacity(_) => Fault::TooLarge,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Fault::Interrupted,
        Error::Protocol(error) => Fault::Malformed(error.to_string()),
        _ => Fault::Interrupted,
    }
}
