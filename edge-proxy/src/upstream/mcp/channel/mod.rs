//! Connections that are sessions: HTTP+SSE and WebSocket upstreams. One is opened on first use and kept warm, and its
//! messages are dispatched to the calls that they belong to. In the modern era there is no handshake: a WebSocket carries
//! requests that each say everything.
//!
//! It must not know clients. A server request or a log message on a connection does not say which call it belongs to,
//! so calls that may be asked something have one each, and only the others share.

mod bounded_frames;
mod claim;
mod dispatcher;
mod framing;
mod heal;
mod pool;

pub(super) use claim::{CallMessages, ChannelClaim};
pub(super) use pool::ChannelPool;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use mcp::border::ids;
use mcp::message::{Envelope, Kind};
use mcp::quirk::Quirk;
use mcp::revision::Era;
use mcp::session_loss::{Ping, Refusal};
use tokio::task::AbortHandle;

use self::dispatcher::Dispatcher;
use self::framing::{Incoming, Outgoing, SendOutcome};
use super::reply_queue::{ReplyQueue, not_taken};
use super::session;
use super::session::SessionKey;
use crate::collections::byte_queue::Receiver;
use crate::error::Fault;
use crate::observe::{Gauge, GaugeGuard};
use crate::snapshot::{McpTransport, Upstream};
use crate::upstream::connect::HttpPool;
use crate::upstream::quirk_sink::QuirkSink;

const MAX_QUEUED: usize = 256;
/// Longest wait for a sign of an upstream that kept silent.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(5);
/// The raw id of a ping; no call has it.
const PING_ID: &str = r#""there?""#;
const PING: &[u8] = br#"{"jsonrpc":"2.0","id":"there?","method":"ping"}"#;
/// The same in the modern era, which has no pings: every server answers it, and does nothing.
const MODERN_PING: &[u8] = br#"{"jsonrpc":"2.0","id":"there?","method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
/// The id of `initialize`; no call has it.
const INITIALIZE_ID: u64 = 1;

/// One connection, which is one session.
pub(super) struct Channel {
    outgoing: Outgoing,
    dispatcher: Rc<Dispatcher>,
    replies: Rc<ReplyQueue>,
    reader: AbortHandle,
    used: Cell<Instant>,
    quirks: Rc<QuirkSink>,
    /// What is answered by an upstream that is there.
    ping: &'static [u8],
    /// How calls were refused in the responses to their posts.
    refusals: RefCell<HashMap<u64, Refusal>>,
    /// Whether a request was answered on it: only then can the upstream have forgotten its session.
    confirmed: Cell<bool>,
    /// The end of the ping by which its session was found lost.
    lost_by: Cell<Option<Ping>>,
    _counted: GaugeGuard,
}

impl Channel {
    /// Connects, and initializes in the legacy era. An `exclusive` channel has one call at a time, which receives all messages meanwhile.
    pub(super) async fn open(
        http_pool: &Rc<HttpPool>,
        upstream: &Upstream,
        transport: McpTransport,
        key: SessionKey,
        exclusive: bool,
        gauge: &Gauge,
    ) -> Result<Rc<Self>, Fault> {
        let (limit, max_message) = (upstream.request_timeout, http_pool.max_message());
        let opened = async {
            let (outgoing, incoming) = match transport {
                McpTransport::WebSocket => framing::open_websocket(http_pool, limit, max_message).await?,
                McpTransport::HttpSse | McpTransport::StreamableHttp => {
                    framing::open_event_stream(http_pool, upstream, max_message).await?
                }
            };
            let era = key.revision.era();
            let channel = Rc::new(Self::start(outgoing, incoming, exclusive, http_pool, era, gauge));
            if era == Era::Legacy {
                channel.initialize(upstream, key).await?;
            }
            Ok(channel)
        };
        tokio::time::timeout(limit, opened).await.map_err(|_| Fault::Timeout)?
    }

    fn start(
        outgoing: Outgoing,
        incoming: Incoming,
        exclusive: bool,
        http_pool: &HttpPool,
        era: Era,
        gauge: &Gauge,
    ) -> Self {
        let metrics = Arc::clone(http_pool.metrics());
        let quirks = Rc::clone(&http_pool.quirks);
        let dispatcher = Rc::new(Dispatcher::new(exclusive, http_pool.max_message(), metrics, quirks));
        let replies = Rc::new(ReplyQueue::default());
        let reader = read(incoming, Rc::clone(&dispatcher), Rc::clone(&replies), outgoing.clone());
        let reader = tokio::task::spawn_local(reader).abort_handle();
        let used = Cell::new(Instant::now());
        let quirks = Rc::clone(&http_pool.quirks);
        let ping = if era == Era::Legacy { PING } else { MODERN_PING };
        Self {
            outgoing,
            dispatcher,
            replies,
            reader,
            used,
            quirks,
            ping,
            refusals: RefCell::default(),
            confirmed: Cell::default(),
            lost_by: Cell::default(),
            _counted: gauge.enter(),
        }
    }

    /// Begins the session with the first revision that the upstream takes.
    async fn initialize(&self, upstream: &Upstream, key: SessionKey) -> Result<(), Fault> {
        let (offer, fallback) = session::offers(key.revision, upstream);
        let begin = async |offer| {
            let answer = self.request(INITIALIZE_ID, session::initialize(key, offer).into()).await?;
            session::negotiated(upstream, &answer)
        };
        match (begin(offer).await, fallback) {
            (Err(fault), Some(fallback)) if session::may_be_about_revision(&fault) => {
                begin(fallback).await?;
                self.quirks.note(Quirk::RefusesNewerVersions, offer.as_str());
            }
            (begun, _) => {
                begun?;
            }
        }
        let initialized = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        if let SendOutcome::Refused { status, .. } = self.outgoing.deliver(initialized).await? {
            self.quirks.note(Quirk::RefusesInitialized, format!("HTTP {status}"));
        }
        Ok(())
    }

    /// Sends the request of this number, and waits for its response.
    pub(super) async fn request(&self, number: u64, body: Bytes) -> Result<Bytes, Fault> {
        let mut answers = self.dispatcher.register(number)?;
        let sent = async {
            match self.outgoing.deliver(body).await? {
                SendOutcome::Refused { status, .. } => return Err(Fault::Status(status)),
                SendOutcome::Answered { body, is_labelled } => {
                    self.dispatcher.take_answer(body, is_labelled, Some(number)).await;
                }
                SendOutcome::Taken => {}
            }
            std::future::pending().await
        };
        tokio::select! {
            answer = answers.recv() => answer.unwrap_or(Err(Fault::Interrupted)),
            failed = sent => failed,
        }
    }

    /// Sends a message in the background. A call that could not be sent is ended.
    pub(super) fn send(self: &Rc<Self>, number: Option<u64>, body: Bytes) {
        let channel = Rc::clone(self);
        channel.used.set(Instant::now());
        tokio::task::spawn_local(async move {
            let fault = match channel.outgoing.deliver(body).await {
                Ok(SendOutcome::Taken) => return,
                Ok(SendOutcome::Answered { body, is_labelled }) => {
                    return channel.dispatcher.take_answer(body, is_labelled, number).await;
                }
                Ok(SendOutcome::Refused { status, body }) => match number {
                    Some(number) => return channel.refused(number, status, body).await,
                    None => Fault::Status(status),
                },
                Err(fault) => fault,
            };
            match number {
                Some(number) => channel.dispatcher.fail(number, fault),
                None => tracing::debug!(%fault, "cannot send a message on a channel"),
            }
        });
    }

    /// Ends a call that the upstream has refused, though the stream is still open: it may have forgotten the session.
    #[cold]
    async fn refused(&self, number: u64, status: u16, body: Bytes) {
        let Some(call) = self.dispatcher.unregister(number) else { return };
        self.refusals.borrow_mut().insert(number, Refusal::read(status, &body));
        if is_response_to(number, &body) {
            // Its error, instead of on the stream.
            self.quirks.note(Quirk::AnswersInPost, format!("HTTP {status}"));
            call.answer(body).await;
        } else {
            call.fail(Fault::Status(status));
        }
    }

    /// Asks whether the session lives.
    #[cold]
    async fn ping(&self) -> Ping {
        let asked = async {
            let pong = self.dispatcher.await_pong();
            match self.outgoing.deliver(Bytes::from_static(PING)).await {
                Ok(SendOutcome::Refused { status, body }) => Ping::of(Refusal::read(status, &body)),
                Ok(SendOutcome::Answered { body, .. }) if dispatcher::is_pong(&body) => {
                    Ping::read(StatusCode::OK.as_u16(), &body)
                }
                Ok(SendOutcome::Taken | SendOutcome::Answered { .. }) => {
                    pong.await.map_or(Ping::Failed, |body| Ping::read(StatusCode::OK.as_u16(), &body))
                }
                Err(_) => Ping::Failed,
            }
        };
        tokio::time::timeout(LIVENESS_TIMEOUT, asked).await.unwrap_or(Ping::Failed)
    }

    /// Responds to a request of the upstream. Waits, until then, for room among the responses before it. Cancel safe.
    async fn reply(&self, body: Bytes, until: tokio::time::Instant) -> Result<(), Fault> {
        let sender = || Ok(reply_sender(self.outgoing.clone(), Rc::clone(&self.dispatcher)));
        self.replies.send(body, until, sender).await
    }

    /// Pings the upstream after an unexpected silence, and ends the channel if it stays silent.
    fn check_alive(self: &Rc<Self>) {
        let (channel, pinged) = (Rc::clone(self), Instant::now());
        self.send(None, Bytes::from_static(self.ping));
        tokio::task::spawn_local(async move {
            tokio::time::sleep(LIVENESS_TIMEOUT).await;
            if channel.dispatcher.last_received() < pinged {
                channel.dispatcher.close(&Fault::Interrupted);
            }
        });
    }

    /// Asks for log messages from a raw level on.
    pub(super) fn set_level(self: &Rc<Self>, level: &Bytes) {
        self.send(None, session::set_level(level));
    }

    /// Returns the messages that belong to no call.
    pub(super) fn listen(&self) -> Receiver<Bytes> {
        self.dispatcher.listen()
    }

    fn is_closed(&self) -> bool {
        self.dispatcher.is_closed()
    }

    /// Closes the connection in the background.
    pub(super) fn close(&self) {
        self.reader.abort();
        self.dispatcher.close(&Fault::Interrupted);
        let outgoing = self.outgoing.clone();
        tokio::task::spawn_local(async move { outgoing.close().await });
    }
}

/// The connection is closed with it, without a closing handshake.
impl Drop for Channel {
    fn drop(&mut self) {
        self.reader.abort();
        self.dispatcher.close(&Fault::Interrupted);
    }
}

/// Dispatches every message until the connection ends.
async fn read(
    mut incoming: Incoming,
    dispatcher: Rc<Dispatcher>,
    replies: Rc<ReplyQueue>,
    outgoing: Outgoing,
) {
    let ended = loop {
        if dispatcher.is_closed() {
            return;
        }
        let message = match incoming.next().await {
            Ok(message) => message,
            Err(fault) => match incoming.take_ends().filter(|_| fault == Fault::TooLarge) {
                Some(ends) => {
                    dispatcher.set_aside(&ends);
                    continue;
                }
                None => break fault,
            },
        };
        match dispatcher.dispatch(message).await {
            Ok(None) => {}
            Ok(Some(reply)) => {
                let until = tokio::time::Instant::now() + outgoing.timeout();
                let sender = || Ok(reply_sender(outgoing.clone(), Rc::clone(&dispatcher)));
                if let Err(fault) = replies.send(reply, until, sender).await {
                    break fault;
                }
            }
            Err(fault) => break fault,
        }
    };
    tracing::debug!(fault = %ended, "a channel ended");
    dispatcher.close(&ended);
}

/// Returns what sends responses on a channel, which ends where they are not taken in time.
fn reply_sender(outgoing: Outgoing, dispatcher: Rc<Dispatcher>) -> impl AsyncFn(Bytes) -> Result<(), Fault> {
    async move |reply| {
        let sent = outgoing.send(reply).await;
        if sent == Err(Fault::Timeout) {
            dispatcher.close(&not_taken());
        }
        sent
    }
}

/// Whether the body of a refused post is the response to the call of this number.
fn is_response_to(number: u64, body: &[u8]) -> bool {
    let id =
        Envelope::look(body).ok().filter(|envelope| envelope.kind() == Kind::Response).and_then(|it| it.id);
    id.is_some_and(|id| ids::denotes(id, number).is_some())
}

/// Refuses a request that no client can be asked.
fn refusal(id: &str) -> Bytes {
    let error = "this client does not support this request";
    mcp::error::render(Some(id), mcp::error::METHOD_NOT_FOUND, error, None)
}
