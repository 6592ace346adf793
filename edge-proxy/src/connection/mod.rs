//! Connections on which both sides speak and whose session ends with them: HTTP+SSE and WebSocket.
//!
//! Every message takes the same pipeline as a request of its own. Everything that a connection started ends with it.
//! It must not know what the messages ask for.

mod messages;
pub mod sse;
mod watchdog;
pub mod websocket;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{AbortHandle, LocalBoxFuture};
use mcp::message::{Envelope, EnvelopeError};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::collections::byte_queue;
use crate::context::{Authenticated, RequestContext, StreamPermit, WorkerState};
use crate::error::{ErrorContext, Failure};
use crate::identity::{ClientCertificate, Presented};
use crate::observe::{CloseReason, ConnectionTransport, GaugeGuard};
use crate::policy::Caller;
use crate::respond::Reply;
use crate::session::ConnectionSession;

/// Messages that wait for the client to read, and have the bytes of one event together, unless one alone has more. Further
/// ones wait to be queued.
const MAX_WAITING: usize = 16;

/// Handles one message of a connection: the request pipeline, which this module must not know.
pub type Handler = for<'a> fn(
    &'a Rc<ClientConnection>,
    &'a Bytes,
    Result<Envelope<'a>, EnvelopeError>,
    &'a mut ErrorContext,
) -> LocalBoxFuture<'a, Result<Reply, Failure>>;

/// A connection on which both sides speak.
pub struct ClientConnection {
    worker: Rc<WorkerState>,
    transport: ConnectionTransport,
    /// The address of the client, as the request that opened it had it, if it is known.
    address: Option<IpAddr>,
    /// The uid of the token.
    token: Box<str>,
    server: Box<str>,
    /// The uid of the server, which must stay the same.
    uid: Box<str>,
    bearer: Option<Box<str>>,
    certificate: Option<Arc<ClientCertificate>>,
    session: ConnectionSession,
    handler: Handler,
    /// True if the client already gets notifications without having asked.
    listening: Cell<bool>,
    /// Requests in flight by raw id, with the handle that cancels those that are cancelled here.
    requests: RefCell<HashMap<Bytes, Option<AbortHandle>>>,
    /// Permits for requests, and for messages of any kind.
    request_permits: Arc<Semaphore>,
    message_permits: Arc<Semaphore>,
    tasks: RefCell<JoinSet<()>>,
    outbox: byte_queue::Sender<Bytes>,
    close_reason: watch::Sender<Option<CloseReason>>,
    _permit: StreamPermit,
    _counted: GaugeGuard,
}

/// The owner of a connection. Dropping it ends whatever the connection started.
struct ConnectionGuard {
    connection: Rc<ClientConnection>,
    outbox: byte_queue::Receiver<Bytes>,
    close_reason: watch::Receiver<Option<CloseReason>>,
}

impl ConnectionGuard {
    /// Opens a connection for the caller in `context`.
    fn open(
        context: &RequestContext<'_>,
        transport: ConnectionTransport,
        permit: StreamPermit,
        handler: Handler,
    ) -> Self {
        let shared = &context.worker.shared;
        let request_permits = shared.environment.limits.max_in_flight_per_connection;
        let max_bytes = shared.environment.limits.max_event_bytes;
        let (sender, outbox) = byte_queue::channel(MAX_WAITING, max_bytes);
        let (ended, close_reason) = watch::channel(None);
        let connection = Rc::new(ClientConnection {
            worker: Rc::clone(context.worker),
            transport,
            address: context.caller.facts().address,
            token: context.principal().uid.as_ref().into(),
            server: context.server().id.clone(),
            uid: context.server().uid.clone(),
            bearer: context.presented.bearer.map(Into::into),
            certificate: context.presented.certificate.cloned(),
            session: ConnectionSession::new(transport == ConnectionTransport::WebSocket),
            handler,
            listening: Cell::new(false),
            requests: RefCell::default(),
            request_permits: Arc::new(Semaphore::new(request_permits)),
            // Answers and cancellations must come through when no request does; notifications keep one permit.
            message_permits: Arc::new(Semaphore::new(request_permits * 2 + 1)),
            tasks: RefCell::default(),
            outbox: sender,
            close_reason: ended,
            _permit: permit,
            _counted: shared.environment.metrics.client_sessions(transport).enter(),
        });
        connection.spawn(watchdog::watch(Rc::clone(&connection)));
        Self { connection, outbox, close_reason }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.tasks.borrow_mut().abort_all();
        let shared = &connection.worker.shared;
        if let Some(conversation) = connection.session.current() {
            shared.subscriptions.end(&conversation.session_id);
            shared.levels.end(&conversation.session_id);
        }
        let close_reason = connection.close_reason.borrow().unwrap_or(CloseReason::Client);
        shared.environment.metrics.client_sessions_ended(connection.transport, close_reason).inc();
    }
}

impl ClientConnection {
    /// The session of this connection.
    pub fn session(&self) -> &ConnectionSession {
        &self.session
    }

    /// Starts notifications on this connection. Returns true the first time.
    pub fn start_listening(&self) -> bool {
        !self.listening.replace(true)
    }

    /// The worker that serves it.
    pub fn worker(&self) -> &Rc<WorkerState> {
        &self.worker
    }

    /// What it was opened with.
    pub fn presented(&self) -> Presented<'_> {
        Presented { bearer: self.bearer.as_deref(), certificate: self.certificate.as_ref() }
    }

    /// Verifies what it was opened with again.
    pub fn authenticate(&self) -> Result<Authenticated, Failure> {
        Authenticated::now(&self.worker, self.presented(), self.address)
    }

    /// Admits the principal again, to the server that the connection was opened to.
    pub fn admit<'a>(&self, authenticated: &'a Authenticated) -> Result<Caller<'a>, Failure> {
        authenticated.admit_again(&self.worker, [&self.server, &self.uid])
    }

    /// Works out what the principal may see of the server, which `admit` said takes a while.
    pub async fn prepare(&self, authenticated: &Authenticated) {
        authenticated.prepare(&self.server).await;
    }

    /// Ends the connection, unless it has ended for another reason.
    fn end(&self, close_reason: CloseReason) {
        self.close_reason.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(close_reason);
            first
        });
    }

    /// Runs a task for as long as the connection lasts.
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_local(task);
    }
}
