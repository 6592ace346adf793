//! Connections that are sessions: HTTP+SSE and WebSocket upstreams. One is opened on first use and kept warm, and its
//! messages are dispatched to the calls that they belong to.
//!
//! It must not know clients. A server request or a log message on a connection does not say which call it belongs to,
//! so calls that may be asked something have one each, and only the others share.

mod claim;
mod dispatcher;
mod framing;
mod pool;

pub(super) use claim::{CallMessages, ChannelClaim};
pub(super) use pool::ChannelPool;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mcp::json;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use self::dispatcher::Dispatcher;
use self::framing::{Incoming, Outgoing};
use super::session;
use super::session::SessionKey;
use crate::error::Fault;
use crate::observe::{Gauge, GaugeGuard};
use crate::snapshot::{McpTransport, Upstream};
use crate::upstream::connect::HttpPool;

const MAX_QUEUED: usize = 256;
/// Longest wait for a sign of an upstream that kept silent.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(5);
/// The id of `initialize`; no call has it.
const INITIALIZE_ID: u64 = 0;

/// One connection, which is one session.
pub(super) struct Channel {
    outgoing: Outgoing,
    dispatcher: Rc<Dispatcher>,
    reader: AbortHandle,
    used: Cell<Instant>,
    _counted: GaugeGuard,
}

impl Channel {
    /// Connects and initializes. An `exclusive` channel has one call at a time, which receives all messages meanwhile.
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
                McpTransport::WebSocket => framing::open_websocket(http_pool, max_message).await?,
                McpTransport::HttpSse | McpTransport::StreamableHttp => {
                    framing::open_event_stream(http_pool, upstream, max_message).await?
                }
            };
            let channel = Rc::new(Self::start(outgoing, incoming, exclusive, gauge));
            let answer = channel.request(INITIALIZE_ID, session::initialize(key).into()).await?;
            session::negotiated(upstream, &answer)?;
            let initialized =
                Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
            channel.outgoing.send(initialized).await?;
            Ok(channel)
        };
        tokio::time::timeout(limit, opened).await.map_err(|_| Fault::Timeout)?
    }

    fn start(outgoing: Outgoing, incoming: Incoming, exclusive: bool, gauge: &Gauge) -> Self {
        let dispatcher = Rc::new(Dispatcher::new(exclusive));
        let reader =
            tokio::task::spawn_local(read(incoming, Rc::clone(&dispatcher), outgoing.clone())).abort_handle();
        Self { outgoing, dispatcher, reader, used: Cell::new(Instant::now()), _counted: gauge.enter() }
    }

    /// Sends the request of this number, and waits for its response.
    pub(super) async fn request(&self, number: u64, body: Bytes) -> Result<Bytes, Fault> {
        let mut answers = self.dispatcher.register(number)?;
        let sent = async {
            self.outgoing.send(body).await?;
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
            let Err(fault) = channel.outgoing.send(body).await else { return };
            match number {
                Some(number) => channel.dispatcher.fail(number, fault),
                None => tracing::debug!(%fault, "cannot send a message on a channel"),
            }
        });
    }

    /// Pings the upstream after an unexpected silence, and ends the channel if it stays silent.
    fn check_alive(self: &Rc<Self>) {
        let (channel, pinged) = (Rc::clone(self), Instant::now());
        self.send(None, Bytes::from_static(br#"{"jsonrpc":"2.0","id":"there?","method":"ping"}"#));
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
    pub(super) fn listen(&self) -> mpsc::Receiver<Bytes> {
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
async fn read(mut incoming: Incoming, dispatcher: Rc<Dispatcher>, outgoing: Outgoing) {
    let ended = loop {
        let message = match incoming.next().await {
            Ok(message) => message,
            Err(fault) => break fault,
        };
        match dispatcher.dispatch(message).await {
            Ok(None) => {}
            Ok(Some(reply)) => {
                let outgoing = outgoing.clone();
                tokio::task::spawn_local(async move {
                    if let Err(fault) = outgoing.send(reply).await {
                        tracing::debug!(%fault, "cannot send a response on a channel");
                    }
                });
            }
            Err(fault) => break fault,
        }
    };
    tracing::debug!(fault = %ended, "a channel ended");
    dispatcher.close(&ended);
}

/// Refuses a request that no client can be asked.
fn refusal(id: &str) -> Bytes {
    let error = "this client does not support this request";
    mcp::error::render(Some(id), mcp::error::METHOD_NOT_FOUND, error, None)
}

/// Reads a member of raw params that is a number.
fn number(params: Option<&str>, member: &'static str) -> Option<u64> {
    let [raw] = json::members(params?, [member]).ok()?;
    raw?.parse().ok()
}
