//! A connection on which client and edge both speak, and whose conversation is the connection's: HTTP+SSE, WebSocket.
//!
//! Every message takes the same road as one that is posted alone; here is what begins before it and ends after it.
//! Everything that a connection started ends with it. It must not know what the messages ask for.

mod carry;
mod minder;
pub mod sse;
pub mod websocket;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{AbortHandle, LocalBoxFuture};
use mcp::message::{Envelope, EnvelopeError};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::error::{Asked, Failure};
use crate::observe::{Ending, Entered, Transport};
use crate::respond::Reply;
use crate::scene::Scene;
use crate::session::ConnectionSession;
use crate::snapshot::{Snapshot, Token, View};
use crate::streams::Open;
use crate::worker::Worker;

/// Messages that wait for the client to read; then whoever has another waits too.
const MAX_WAITING: usize = 16;

/// Answers one message of a connection: the request pipeline, which this module need not know.
pub type Handler = for<'a> fn(
    &'a Rc<Duplex>,
    &'a Bytes,
    Result<Envelope<'a>, EnvelopeError>,
    &'a mut Asked,
) -> LocalBoxFuture<'a, Result<Reply, Failure>>;

/// A connection on which both sides speak.
pub struct Duplex {
    worker: Rc<Worker>,
    transport: Transport,
    server: Box<str>,
    /// The uid of the server, which must stay the same.
    uid: Box<str>,
    bearer: Box<str>,
    session: ConnectionSession,
    handler: Handler,
    /// Whether the client hears what no request asked for.
    listening: Cell<bool>,
    /// Requests that are in flight, by raw id; those that are cancelled here with the means to do it.
    requests: RefCell<HashMap<Bytes, Option<AbortHandle>>>,
    /// Room for requests, and for messages of any kind.
    turns: Arc<Semaphore>,
    seats: Arc<Semaphore>,
    tasks: RefCell<JoinSet<()>>,
    outbox: mpsc::Sender<Bytes>,
    ending: watch::Sender<Option<Ending>>,
    _seat: (Open, Entered),
    _counted: Entered,
}

/// What keeps a connection going. When it is dropped, whatever the connection started ends.
struct Root {
    duplex: Rc<Duplex>,
    outbox: mpsc::Receiver<Bytes>,
    ending: watch::Receiver<Option<Ending>>,
}

impl Root {
    /// A connection of the caller that `scene` is about, who came with `bearer`.
    fn open(
        scene: &Scene<'_>,
        transport: Transport,
        bearer: &str,
        handler: Handler,
    ) -> Result<Self, Failure> {
        let shared = &scene.worker.shared;
        let seat = shared.seat(&scene.token.uid).ok_or(Failure::TooManyStreams)?;
        if scene.worker.is_draining() {
            return Err(Failure::Draining);
        }
        let turns = shared.limits.max_in_flight_per_connection;
        let (sender, outbox) = mpsc::channel(MAX_WAITING);
        let (ended, ending) = watch::channel(None);
        let duplex = Rc::new(Duplex {
            worker: Rc::clone(scene.worker),
            transport,
            server: scene.view.server.id.clone(),
            uid: scene.view.server.uid.clone(),
            bearer: bearer.into(),
            session: ConnectionSession::new(transport == Transport::WebSocket),
            handler,
            listening: Cell::new(false),
            requests: RefCell::default(),
            turns: Arc::new(Semaphore::new(turns)),
            // Answers and cancellations must come through when no request does, and listening takes one for good.
            seats: Arc::new(Semaphore::new(turns * 2 + 1)),
            tasks: RefCell::default(),
            outbox: sender,
            ending: ended,
            _seat: seat,
            _counted: shared.metrics.client_sessions(transport).enter(),
        });
        duplex.spawn(minder::mind(Rc::clone(&duplex)));
        Ok(Self { duplex, outbox, ending })
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let duplex = &self.duplex;
        duplex.tasks.borrow_mut().abort_all();
        let shared = &duplex.worker.shared;
        if let Some(conversation) = duplex.session.begun() {
            shared.subscriptions.end(&conversation.jti);
            shared.levels.end(&conversation.jti);
        }
        let ending = duplex.ending.borrow().unwrap_or(Ending::Client);
        shared.metrics.client_sessions_ended(duplex.transport, ending).inc();
    }
}

impl Duplex {
    /// The session of this connection.
    pub fn session(&self) -> &ConnectionSession {
        &self.session
    }

    /// Whether the client is to hear from now on what no request asks for. True once.
    pub fn begins_to_listen(&self) -> bool {
        !self.listening.replace(true)
    }

    /// The worker that serves it.
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Who is calling and what is seen of the server, if the caller is still welcome.
    pub fn caller(&self, snapshot: &Snapshot, now: u64) -> Result<(Arc<Token>, Arc<View>), Failure> {
        if !self.worker.shared.current.bearers_are_believed(now) {
            return Err(Failure::Stale);
        }
        let token = self.worker.verified.caller(snapshot, Some(&self.bearer), now)?;
        let view = token.scope.view(&self.server).filter(|view| view.server.uid == self.uid);
        let view = Arc::clone(view.ok_or(Failure::Server)?);
        Ok((token, view))
    }

    /// Ends the connection, unless something else ended it before.
    fn end(&self, ending: Ending) {
        self.ending.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(ending);
            first
        });
    }

    /// Runs something for as long as the connection lasts.
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_local(task);
    }
}
