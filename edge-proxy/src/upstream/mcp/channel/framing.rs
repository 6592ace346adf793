//! The framing of messages on a channel: events one way and posts the other, or frames both ways.
//!
//! It must not know what they say.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{ACCEPT, CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use mcp::border::Media;
use mcp::border::cookies::cookies;
use mcp::border::events::{Take, take};
use mcp::endpoint::{self, EVENT};
use mcp::quirk::Quirk;
use mcp::redirect;
use mcp::sse::{Ends, Event};
use tokio::sync::Mutex;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use url::Url;

use super::bounded_frames::{BoundedFrames, SkippedFrames};
use crate::error::Fault;
use crate::snapshot::Upstream;
use crate::upstream::connect::{HttpPool, HttpResponse, Redirect, Retry};
use crate::upstream::mcp::event_stream::EventStream;
use crate::upstream::quirk_sink::QuirkSink;

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
/// Events, and bytes of their data, that may come before the one that names the URL for messages.
const MAX_BEFORE_ENDPOINT: usize = 64;
const MAX_BYTES_BEFORE_ENDPOINT: usize = 64 << 10;
/// Longest wait for the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<BoundedFrames<TokioIo<Upgraded>>>;
type Sink = Rc<Mutex<SplitSink<Socket, Message>>>;

/// The sending half of a channel.
#[derive(Clone)]
pub(super) enum Outgoing {
    /// Each message is posted to the URL that the upstream named.
    Post(Rc<Posting>),
    /// Each message is a frame.
    Frame { sink: Sink, timeout: Duration },
}

/// Where and how messages are posted.
pub(super) struct Posting {
    http_pool: Rc<HttpPool>,
    target: Uri,
    headers: HeaderMap,
    timeout: Duration,
}

/// What became of a message that was sent.
pub(super) enum SendOutcome {
    /// It is on its way, or was taken.
    Taken,
    /// It was taken, and the response to the post has a body that is JSON.
    Answered {
        /// What it says.
        body: Bytes,
        /// Whether it is labelled as an answer is.
        is_labelled: bool,
    },
    /// It was refused.
    Refused {
        status: u16,
        /// The body of the response to the post.
        body: Bytes,
    },
}

/// The receiving half of a channel.
pub(super) enum Incoming {
    Events(Box<EventStream>),
    FrameReader(FrameReader),
}

/// Received frames, and pings that detect a dead connection.
pub(super) struct FrameReader {
    stream: SplitStream<Socket>,
    sink: Sink,
    timeout: Duration,
    ticks: Interval,
    silent: bool,
    /// What is left of messages that were too large.
    skipped: SkippedFrames,
    quirks: Rc<QuirkSink>,
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
    let mut response = http_pool.send(&Method::GET, headers, Bytes::new(), Retry::Safe, MAX_SILENCE).await?;
    if response.status != StatusCode::OK {
        return Err(Fault::Status(response.status.as_u16()));
    }
    if response.media().await? != Some(Media::Events) {
        return Err(Fault::Session("it opens no event stream".to_owned()));
    }
    let mut headers = http_pool.headers.clone();
    if let Some(cookie) = cookies(&response.headers, headers.get(COOKIE)) {
        http_pool.quirks.note(Quirk::AffinityCookies, "");
        headers.insert(COOKIE, cookie);
    }
    let base = base_url(http_pool, upstream)?;
    let mut stream = Box::new(EventStream::skipping(response, max_message));
    let endpoint = endpoint_event(&mut stream).await?;
    let session = |error: String| Fault::Session(error);
    let url = endpoint::resolve(&base, &endpoint.data).map_err(|error| session(error.to_string()))?;
    let target = &url[url::Position::BeforePath..];
    let target = target.parse().map_err(|_| session("its endpoint is not a URL".to_owned()))?;
    let http_pool = Rc::clone(http_pool);
    let posting = Posting { http_pool, target, headers, timeout: upstream.request_timeout };
    Ok((Outgoing::Post(Rc::new(posting)), Incoming::Events(stream)))
}

/// The URL at which the stream was opened.
fn base_url(http_pool: &HttpPool, upstream: &Upstream) -> Result<Url, Fault> {
    let url = upstream.credential.url(upstream.reach.url()).ok();
    let url = url.and_then(|url| Url::parse(&url.to_string()).ok());
    let opened_at = url.and_then(|url| url.join(&http_pool.target().to_string()).ok());
    opened_at.ok_or_else(|| Fault::Session("its URL is not valid".to_owned()))
}

/// Returns the event that names the URL for messages. Some servers send others before it.
async fn endpoint_event(stream: &mut EventStream) -> Result<Event, Fault> {
    let mut bytes = 0;
    for _ in 0..MAX_BEFORE_ENDPOINT {
        let event = stream.next().await?.ok_or(Fault::Interrupted)?;
        if event.event.as_deref() == Some(EVENT) {
            return Ok(event);
        }
        bytes += event.data.len();
        if bytes > MAX_BYTES_BEFORE_ENDPOINT {
            break;
        }
        match take(&event) {
            Take::Nothing => {}
            Take::Odd(quirk) => stream.quirks().note_event(quirk, &event),
            // Nothing was asked yet.
            Take::Message(data) => stream.quirks().note(Quirk::UnreadableMessages, data),
        }
    }
    Err(Fault::Session("its stream does not begin with the event `endpoint`".to_owned()))
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
    let skipped = SkippedFrames::default();
    let bounded = BoundedFrames::new(upgraded, max_message, &skipped);
    let socket = WebSocketStream::from_raw_socket(bounded, Role::Client, Some(config)).await;
    let (sink, stream) = socket.split();
    let sink = Rc::new(Mutex::new(sink));
    let mut ticks = interval(PING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let quirks = Rc::clone(&http_pool.quirks);
    let silent = false;
    let frames = FrameReader { stream, sink: Rc::clone(&sink), timeout, ticks, silent, skipped, quirks };
    Ok((Outgoing::Frame { sink, timeout }, Incoming::FrameReader(frames)))
}

impl Outgoing {
    /// Sends a message, and drops what the upstream says to that.
    pub(super) async fn send(&self, message: Bytes) -> Result<(), Fault> {
        match self.deliver(message).await? {
            SendOutcome::Taken | SendOutcome::Answered { .. } => Ok(()),
            SendOutcome::Refused { status, .. } => Err(Fault::Status(status)),
        }
    }

    /// Sends a message.
    pub(super) async fn deliver(&self, message: Bytes) -> Result<SendOutcome, Fault> {
        match self {
            Self::Post(posting) => posting.post(message).await,
            Self::Frame { sink, timeout } => {
                let text = message.try_into();
                let text = text.map_err(|_| Fault::Malformed("a message is not UTF-8".to_owned()))?;
                send_frame(sink, Message::Text(text), *timeout).await.map(|()| SendOutcome::Taken)
            }
        }
    }

    /// The time within which the upstream takes a message.
    pub(super) fn timeout(&self) -> Duration {
        match self {
            Self::Post(posting) => posting.timeout,
            Self::Frame { timeout, .. } => *timeout,
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

impl Posting {
    async fn post(&self, message: Bytes) -> Result<SendOutcome, Fault> {
        let sent = self.post_to(&self.target, message.clone()).await?;
        let sent = match redirect::is_redirect(sent.status.as_u16()) {
            true => Box::pin(self.follow(sent, &message)).await?,
            false => sent,
        };
        let (status, label) = (sent.status, sent.label());
        if !status.is_success() {
            let body = sent.collect(MAX_POST_RESPONSE).await?;
            return Ok(SendOutcome::Refused { status: status.as_u16(), body });
        }
        // Servers respond on the stream, and a few of them here.
        if status == StatusCode::OK && label == Some(Media::Json) {
            let body = sent.collect(self.http_pool.max_message()).await?;
            return Ok(SendOutcome::Answered { body, is_labelled: true });
        }
        Ok(Box::pin(self.taken(sent)).await)
    }

    /// Reads what a server says beside having taken a message, which may be the answer under any status of success and any label.
    /// Whatever is wrong with a body that nobody needs does not matter: the message was taken.
    async fn taken(&self, mut sent: HttpResponse) -> SendOutcome {
        match sent.media().await {
            Ok(Some(Media::Json)) => {
                let body = sent.read_what_comes(self.http_pool.max_message()).await;
                SendOutcome::Answered { body, is_labelled: false }
            }
            _ => {
                sent.read_what_comes(MAX_POST_RESPONSE).await;
                SendOutcome::Taken
            }
        }
    }

    async fn post_to(&self, target: &Uri, message: Bytes) -> Result<HttpResponse, Fault> {
        let (headers, retry) = (&self.headers, Retry::IfUnsent);
        self.http_pool.send_to(target, &Method::POST, headers, message, retry, self.timeout).await
    }

    #[cold]
    async fn follow(&self, mut redirected: HttpResponse, message: &Bytes) -> Result<HttpResponse, Fault> {
        let mut target = self.target.clone();
        for hops in 1.. {
            if !redirect::is_redirect(redirected.status.as_u16()) {
                break;
            }
            // What a message asks for may have run.
            let (status, headers) = (redirected.status, &redirected.headers);
            let redirect = Redirect { target: &target, status, headers, hops, retry: Retry::IfUnsent };
            let Some(next) = redirect.next_target(&self.http_pool) else { break };
            target = next;
            redirected = self.post_to(&target, message.clone()).await?;
        }
        Ok(redirected)
    }
}

impl Incoming {
    /// Takes what is left of a message that was too large, where more can be read after it.
    #[cold]
    pub(super) fn take_ends(&mut self) -> Option<Ends> {
        match self {
            Self::FrameReader(frames) => frames.skipped.take(),
            Self::Events(stream) => stream.take_ends(),
        }
    }

    /// Returns the next message; a fault at the end, or for one that is too large.
    pub(super) async fn next(&mut self) -> Result<Bytes, Fault> {
        match self {
            Self::FrameReader(frames) => frames.next().await,
            Self::Events(stream) => stream.next_unread().await?.ok_or(Fault::Interrupted),
        }
    }
}

/// Sends a frame, after those that are being sent, within this time in all.
async fn send_frame(sink: &Sink, frame: Message, timeout: Duration) -> Result<(), Fault> {
    let sent = async { sink.lock().await.send(frame).await.map_err(|error| fault(&error)) };
    tokio::time::timeout(timeout, sent).await.unwrap_or(Err(Fault::Timeout))
}

impl FrameReader {
    async fn next(&mut self) -> Result<Bytes, Fault> {
        loop {
            if !self.skipped.is_empty() {
                return Err(Fault::TooLarge);
            }
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
                Some(Ok(Message::Text(text))) => {
                    if !text.trim_ascii().is_empty() {
                        return Ok(text.into());
                    }
                }
                Some(Ok(Message::Binary(data))) => {
                    if let Some(text) = self.text_of(data)? {
                        return Ok(text);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(fault(&error)),
                None => return Err(Fault::Interrupted),
            }
        }
    }

    /// Reads a binary frame, in which some servers send their messages; `None` for an empty one.
    #[cold]
    fn text_of(&self, frame: Bytes) -> Result<Option<Bytes>, Fault> {
        if Utf8Bytes::try_from(frame.clone()).is_err() {
            return Err(Fault::Malformed("a binary frame that is not UTF-8".to_owned()));
        }
        self.quirks.note(Quirk::BinaryFrames, "");
        Ok(Some(frame).filter(|frame| !frame.trim_ascii().is_empty()))
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
