//! Connections that are sessions: HTTP+SSE and WebSocket upstreams. One is opened on first use, kept warm, and led from
//! there: every message to the call that it belongs to.
//!
//! It must not know clients. On a connection nothing says which call a question or a log message belongs to, so calls
//! that may be asked something have one each, and only the others share.

mod desk;
mod lease;
mod line;
mod pool;

pub(super) use lease::{Lease, Messages};
pub(super) use pool::Channels;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mcp::json;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use self::desk::Desk;
use self::line::{In, Out};
use super::endpoint::Endpoint;
use super::handshake;
use super::legacy::SessionKey;
use crate::error::Fault;
use crate::observe::{Entered, Gauge};
use crate::snapshot::{Transport, Upstream};

/// Messages that may wait for one reader.
const MAX_WAITING: usize = 256;
/// How long an upstream that kept silent has to show that it is there.
const CHECK: Duration = Duration::from_secs(5);
/// The number of `initialize`; no call has it.
const FIRST: u64 = 0;

/// One connection, which is one session.
pub(super) struct Channel {
    out: Out,
    desk: Rc<Desk>,
    reader: AbortHandle,
    used: Cell<Instant>,
    _counted: Entered,
}

impl Channel {
    /// Connects and shakes hands. `alone`: calls come one at a time, and are told everything that is said meanwhile.
    pub(super) async fn open(
        endpoint: &Rc<Endpoint>,
        upstream: &Upstream,
        key: SessionKey,
        alone: bool,
        gauge: &Gauge,
    ) -> Result<Rc<Self>, Fault> {
        let (limit, max_message) = (upstream.request_timeout, endpoint.max_message());
        let opened = async {
            let (out, incoming) = match upstream.transport {
                Transport::WebSocket => line::websocket(endpoint, max_message).await?,
                _ => line::events(endpoint, upstream, max_message).await?,
            };
            let channel = Rc::new(Self::begin(out, incoming, alone, gauge));
            let answer = channel.ask(FIRST, handshake::initialize(key).into()).await?;
            handshake::negotiated(&answer)?;
            let ready = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
            channel.out.send(ready).await?;
            Ok(channel)
        };
        tokio::time::timeout(limit, opened).await.map_err(|_| Fault::Timeout)?
    }

    fn begin(out: Out, incoming: In, alone: bool, gauge: &Gauge) -> Self {
        let desk = Rc::new(Desk::new(alone));
        let reader = tokio::task::spawn_local(read(incoming, Rc::clone(&desk), out.clone())).abort_handle();
        Self { out, desk, reader, used: Cell::new(Instant::now()), _counted: gauge.enter() }
    }

    /// Sends a request of this number, and waits for its answer.
    pub(super) async fn ask(&self, number: u64, body: Bytes) -> Result<Bytes, Fault> {
        let mut answers = self.desk.expect(number)?;
        let sent = async {
            self.out.send(body).await?;
            std::future::pending().await
        };
        tokio::select! {
            answer = answers.recv() => answer.unwrap_or(Err(Fault::Interrupted)),
            failed = sent => failed,
        }
    }

    /// Sends a message, waiting for nothing. Where it is a call, that it could not be sent ends the call.
    pub(super) fn post(self: &Rc<Self>, number: Option<u64>, body: Bytes) {
        let channel = Rc::clone(self);
        channel.used.set(Instant::now());
        tokio::task::spawn_local(async move {
            let Err(fault) = channel.out.send(body).await else { return };
            match number {
                Some(number) => channel.desk.fail(number, fault),
                None => tracing::debug!(%fault, "a channel did not take a message"),
            }
        });
    }

    /// Sees whether the upstream is still there, after it kept silent where it should have said something.
    fn check(self: &Rc<Self>) {
        let (channel, asked) = (Rc::clone(self), Instant::now());
        self.post(None, Bytes::from_static(br#"{"jsonrpc":"2.0","id":"there?","method":"ping"}"#));
        tokio::task::spawn_local(async move {
            tokio::time::sleep(CHECK).await;
            if channel.desk.heard() < asked {
                channel.desk.end(&Fault::Interrupted);
            }
        });
    }

    /// Asks for log messages from a raw level on.
    pub(super) fn post_level(self: &Rc<Self>, level: &Bytes) {
        self.post(None, handshake::set_level(level));
    }

    /// What is said that belongs to no call.
    pub(super) fn listen(&self) -> mpsc::Receiver<Bytes> {
        self.desk.listen()
    }

    fn is_over(&self) -> bool {
        self.desk.is_over()
    }

    /// Ends it, as well as that goes.
    pub(super) fn close(&self) {
        self.reader.abort();
        self.desk.end(&Fault::Interrupted);
        let out = self.out.clone();
        tokio::task::spawn_local(async move { out.close().await });
    }
}

/// The connection goes with it; nobody is left who could say goodbye.
impl Drop for Channel {
    fn drop(&mut self) {
        self.reader.abort();
        self.desk.end(&Fault::Interrupted);
    }
}

/// Leads every message to whoever it is for, until the connection ends.
async fn read(mut incoming: In, desk: Rc<Desk>, out: Out) {
    let ended = loop {
        let message = match incoming.next().await {
            Ok(message) => message,
            Err(fault) => break fault,
        };
        match desk.lead(message).await {
            Ok(None) => {}
            Ok(Some(reply)) => {
                let out = out.clone();
                tokio::task::spawn_local(async move {
                    if let Err(fault) = out.send(reply).await {
                        tracing::debug!(%fault, "a channel did not take a reply");
                    }
                });
            }
            Err(fault) => break fault,
        }
    };
    tracing::debug!(fault = %ended, "a channel ended");
    desk.end(&ended);
}

/// What nobody can be asked.
fn refusal(id: &str) -> Bytes {
    let error = "this client does not offer that";
    mcp::error::render(Some(id), mcp::error::METHOD_NOT_FOUND, error, None)
}

/// The number that a raw member of params holds.
fn number(params: Option<&str>, member: &'static str) -> Option<u64> {
    let [raw] = json::members(params?, [member]).ok()?;
    raw?.parse().ok()
}
