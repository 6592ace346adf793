//! The stdio side of `mcpctl connect`, for hosts that speak only stdio.
//!
//! This module reads messages from the host, a line each or joined from several, forwards each, and writes responses back. [`connection`] speaks HTTP to the edge,
//! with the [`headers`] of the modern era, for the first of the [`bearers`] that it accepts; [`attempts`] decides what is sent again, [`relay`] brings back what the edge
//! answers, and [`session`] is reopened where it is lost. Messages are relayed byte for byte; the host does not notice an edge that restarts or loses the session.

pub mod attempts;
pub mod bearers;
pub mod connection;
pub mod headers;
pub mod relay;
pub mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mcp::border::{Peer, Unreadable, ids, mend};
use mcp::error::INVALID_REQUEST;
use mcp::json;
use mcp::message::{Envelope, EnvelopeError, Kind};
use mcp::secrets::Secrets;
use mcp::stdio::{LineError, encode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use crate::bridge::child::{LineReader, MAX_MESSAGE_BYTES};
use crate::bridge::joined_lines::{JoinedLine, JoinedLines};
use crate::error::Result;
pub use bearers::OwnedBearer;
pub use connection::{Connection, Target};

/// Maximum number of requests in flight. Further lines wait.
const MAX_IN_FLIGHT: usize = 256;
/// Capacity of the queue of messages to the host.
const QUEUE: usize = 256;
/// Time to wait for outstanding responses once the host has closed stdin.
const END_GRACE: Duration = Duration::from_secs(30);

/// Relays messages until the host closes stdin.
pub async fn run(
    target: Target,
    source: impl AsyncRead + Unpin,
    sink: impl AsyncWrite + Unpin + Send + 'static,
) -> Result {
    let (to_host, answers) = mpsc::channel(QUEUE);
    let writer = tokio::spawn(write(sink, answers));
    let host = Arc::new(HostBridge {
        connection: Connection::new(target, to_host)?,
        running: Mutex::default(),
        in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
        tasks: TaskTracker::new(),
    });
    let (mut lines, mut joined) = (LineReader::new(source, MAX_MESSAGE_BYTES), JoinedLines::default());
    while let Some(line) = lines.next().await {
        match line {
            Ok(line) => host.clone().handle_line(line, &mut joined).await,
            Err(LineError::TooLong { limit, start }) => host.refuse_long(limit, &start).await,
        }
    }
    host.refuse_rest(&mut joined).await;
    host.end().await;
    drop(host);
    let _ = writer.await;
    Ok(())
}

async fn write(mut sink: impl AsyncWrite + Unpin, mut answers: mpsc::Receiver<Bytes>) {
    while let Some(message) = answers.recv().await {
        if sink.write_all(&encode(&message)).await.is_err() || sink.flush().await.is_err() {
            return;
        }
    }
}

struct HostBridge {
    connection: Arc<Connection>,
    /// Requests in flight, by raw id.
    running: Mutex<HashMap<String, AbortHandle>>,
    in_flight: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl HostBridge {
    /// Handles one line from the host. Waits only for the handshake and for notifications, whose order matters.
    async fn handle_line(self: Arc<Self>, line: Bytes, joined: &mut JoinedLines) {
        match Envelope::parse(&line) {
            Ok(message) => {
                self.refuse_rest(joined).await;
                self.handle_message(&line, message).await;
            }
            Err(error) => match joined.push(&line) {
                JoinedLine::Apart => self.handle_odd(&line, error).await,
                JoinedLine::Part => {}
                JoinedLine::Last(whole) => self.handle_joined(&whole).await,
            },
        }
    }

    /// Handles a message over several lines.
    async fn handle_joined(self: Arc<Self>, whole: &Bytes) {
        match Envelope::parse(whole) {
            Ok(message) => self.handle_message(whole, message).await,
            Err(error) => self.handle_odd(whole, error).await,
        }
    }

    /// Handles what is no message as it stands.
    async fn handle_odd(self: Arc<Self>, source: &Bytes, error: EnvelopeError) {
        let meant = match mend(source, error, Peer::Client) {
            Ok(mended) => mended.message,
            Err(unreadable) => return self.refuse(source, &unreadable).await,
        };
        if let Ok(message) = Envelope::parse(&meant) {
            self.handle_message(&meant, message).await;
        }
    }

    /// Answers the lines so far of a message that does not go on.
    async fn refuse_rest(&self, joined: &mut JoinedLines) {
        let Some(rest) = joined.take() else { return };
        let Err(error) = Envelope::parse(&rest) else { return };
        if let Err(unreadable) = mend(&rest, error, Peer::Client) {
            self.refuse(&rest, &unreadable).await;
        }
    }

    async fn handle_message(self: Arc<Self>, line: &Bytes, message: Envelope<'_>) {
        let method = message.method.as_deref().unwrap_or_default();
        match message.kind() {
            Kind::Request if method == "initialize" => self.connection.initialize(line.clone()).await,
            Kind::Notification if headers::is_modern(&message) && method == "notifications/cancelled" => {
                self.cancel(&message);
            }
            Kind::Notification => self.connection.send(line.clone()).await,
            Kind::Request | Kind::Response => self.send_in_background(line.clone(), message.id).await,
        }
    }

    /// Answers a line that is too large, of which only the start is there.
    async fn refuse_long(&self, limit: usize, start: &[u8]) {
        let why = format!("the message is larger than {limit} bytes");
        let id = ids::id_in_prefix(start);
        self.connection.send_to_host(mcp::error::render(id, INVALID_REQUEST, &why, None)).await;
    }

    /// Answers what cannot be read with an excerpt, under the id of the request that it was to be.
    async fn refuse(&self, source: &[u8], unreadable: &Unreadable) {
        let id = ids::id_of_unreadable(source);
        let why = unreadable.quoted(source, &Secrets::default());
        self.connection.send_to_host(mcp::error::render(id, unreadable.error.code(), &why, None)).await;
    }

    async fn send_in_background(self: Arc<Self>, line: Bytes, id: Option<&str>) {
        let Ok(slot) = self.in_flight.clone().acquire_owned().await else { return };
        let id = id.unwrap_or_default().to_owned();
        let (host, key) = (self.clone(), id.clone());
        // The lock is held until the entry exists, so that the task cannot remove it before.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let task = self.tasks.spawn(async move {
            host.connection.send(line).await;
            host.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            drop(slot);
        });
        running.insert(id, task.abort_handle());
    }

    /// Cancels a request by closing its stream, as the modern era wants.
    fn cancel(&self, message: &Envelope<'_>) {
        let id =
            message.params.and_then(|params| json::members(params, ["requestId"]).ok().and_then(|[id]| id));
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let open = running.keys().map(|own| (own.as_str(), own));
        let named = id.and_then(|id| ids::find(id, open)).cloned();
        if let Some(task) = named.and_then(|own| running.remove(&own)) {
            task.abort();
        }
    }

    async fn end(&self) {
        self.connection.close_streams();
        self.tasks.close();
        let _ = tokio::time::timeout(END_GRACE, self.tasks.wait()).await;
        for (_, task) in self.running.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            task.abort();
        }
        self.connection.delete_session().await;
    }
}
