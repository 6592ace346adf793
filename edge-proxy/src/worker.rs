//! What the stages of the road share: `Shared` among all threads, `Worker` within one.
//!
//! It must not know the stages' order. A worker's own things need no lock, because nothing else touches them.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};

use crate::active_calls::ActiveCalls;
use crate::authn::Verified;
use crate::clock;
use crate::config::doors::Doors;
use crate::config::limits::Limits;
use crate::observe::{Entered, Metrics};
use crate::peers::Peers;
use crate::session::{Jti, Levels, Opened, Spent, Subscriptions, Terminated};
use crate::snapshot::Current;
use crate::streams::{Open, Streams};
use crate::transport::door::Door;
use crate::tunnels::Tunnels;
use crate::upstream::{SessionCommand, Upstreams};
use crate::usage::Shard;

/// Orders that may wait for one worker.
const MAX_ORDERS: usize = 1_024;

/// What all worker threads share.
pub struct Shared {
    /// The snapshot in force.
    pub current: Arc<Current>,
    /// Every bound.
    pub limits: Limits,
    /// The names this edge answers to.
    pub door: Door,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Sessions that clients ended.
    pub terminated: Terminated,
    /// What legacy sessions are subscribed to.
    pub subscriptions: Subscriptions,
    /// Tickets that were used.
    pub spent: Spent,
    /// Which log messages legacy sessions asked for.
    pub levels: Levels,
    /// Streams that are open, by token.
    pub streams: Streams,
    /// The other edges, and what this one holds for them.
    pub peers: Peers,
    /// The ways to upstreams that dial in.
    pub tunnels: Tunnels,
    /// How TLS to upstreams is done.
    pub tls: Arc<ClientConfig>,
    /// Client connections that are open.
    pub connections: AtomicUsize,
    orders: Mutex<Vec<mpsc::Sender<SessionCommand>>>,
}

impl Shared {
    /// For the edge `peers` knows as this one, which listens on `address`.
    ///
    /// # Errors
    /// When the platform's trusted certificates cannot be had.
    pub fn new(
        current: Arc<Current>,
        limits: Limits,
        doors: &Doors,
        address: SocketAddr,
        metrics: Arc<Metrics>,
        peers: Peers,
    ) -> Result<Self, rustls::Error> {
        use rustls_platform_verifier::ConfigVerifierExt as _;
        let mut tls = ClientConfig::with_platform_verifier()?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            current,
            limits,
            door: Door::new(doors, address),
            metrics,
            terminated: Terminated::default(),
            subscriptions: Subscriptions::default(),
            spent: Spent::default(),
            levels: Levels::default(),
            streams: Streams::default(),
            peers,
            tunnels: Tunnels::default(),
            tls: Arc::new(tls),
            connections: AtomicUsize::new(0),
            orders: Mutex::default(),
        })
    }

    /// A place for one more stream or connection of a token, unless it holds too many.
    pub fn seat(&self, token: &str) -> Option<(Open, Entered)> {
        let open = self.streams.open(token, self.limits.max_streams_per_token)?;
        Some((open, self.metrics.streams.enter()))
    }

    /// A place for one more request in flight, unless there are too many.
    pub fn slot(&self) -> Option<Entered> {
        self.metrics.in_flight.enter_below(self.limits.max_in_flight)
    }

    /// Ends a session on this edge.
    pub fn end(&self, jti: Jti, expires: u64) {
        self.terminated.terminate(jti, expires, clock::now());
        self.subscriptions.end(&jti);
        self.levels.end(&jti);
    }

    /// Tells every worker of this edge, each of which may hold what an order is about.
    pub fn order(&self, order: &SessionCommand) {
        for worker in &*self.orders.lock().unwrap_or_else(PoisonError::into_inner) {
            if worker.try_send(order.clone()).is_err() {
                tracing::warn!("lost a message to a worker: its queue is full");
            }
        }
    }

    /// A place for orders to one worker.
    fn enlist(&self) -> mpsc::Receiver<SessionCommand> {
        let (sender, receiver) = mpsc::channel(MAX_ORDERS);
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.retain(|worker| !worker.is_closed());
        orders.push(sender);
        receiver
    }
}

/// One thread's own things.
pub struct Worker {
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// Bearers it has verified.
    pub verified: Verified,
    /// Session ids it has opened.
    pub opened: Opened,
    /// Its connections and sessions with upstreams.
    pub upstreams: Upstreams,
    /// The calls it is making.
    pub active_calls: ActiveCalls,
    /// Its counts of calls.
    pub usage: Rc<Shard>,
    /// Whether the edge is stopping.
    pub drain: watch::Receiver<bool>,
}

impl Worker {
    /// A worker and the orders it is to follow.
    pub fn new(
        shared: Arc<Shared>,
        usage: Rc<Shard>,
        drain: watch::Receiver<bool>,
    ) -> (Rc<Self>, mpsc::Receiver<SessionCommand>) {
        let orders = shared.enlist();
        let worker = Self {
            upstreams: Upstreams::new(Arc::clone(&shared)),
            shared,
            verified: Verified::default(),
            opened: Opened::default(),
            active_calls: ActiveCalls::default(),
            usage,
            drain,
        };
        (Rc::new(worker), orders)
    }

    /// Seconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        clock::now()
    }

    /// Whether the edge is stopping.
    pub fn is_draining(&self) -> bool {
        *self.drain.borrow()
    }
}
