//! Tells every other edge what happened to sessions, each in order and as fast as it listens.
//!
//! It must not know what the events mean. An edge that cannot be reached is asked again and again until it can, or until
//! the stream says that it is gone; nobody waits for it meanwhile.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use trunkline::edge::v1::{SessionEvent, TellRequest};

use super::channels::Channels;
use super::log::{Due, Log};
use super::recall;
use crate::observe::Metrics;
use crate::snapshot::EdgePeer;
use crate::worker::Shared;

/// How long one telling may take; past it an edge is one that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a client waits at most for all edges to be told.
const LONGEST: Duration = Duration::from_secs(4);
/// Between tries to reach an edge: the first, and what doubling it comes to.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// One teller for each other edge.
#[derive(Debug)]
pub(super) struct Tellers {
    log: Arc<Log>,
    channels: Arc<Channels>,
    metrics: Arc<Metrics>,
    each: Mutex<HashMap<Box<str>, Teller>>,
}

#[derive(Debug)]
struct Teller {
    peer: EdgePeer,
    progress: watch::Receiver<Progress>,
    _telling: AbortOnDropHandle<()>,
}

/// How far an edge has been told.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// Everything up to this number is in force there.
    told: u64,
    /// Whether it answered when it was last told something.
    reachable: bool,
}

/// What tells one edge.
struct Telling {
    edge: Box<str>,
    log: Arc<Log>,
    channels: Arc<Channels>,
    metrics: Arc<Metrics>,
    shared: Weak<Shared>,
    progress: watch::Sender<Progress>,
}

impl Tellers {
    /// For nobody yet.
    pub(super) fn new(channels: Arc<Channels>, metrics: Arc<Metrics>) -> Self {
        Self { log: Arc::new(Log::new()), channels, metrics, each: Mutex::default() }
    }

    /// Tells all other edges, and waits for those that can be reached.
    pub(super) async fn tell(&self, event: SessionEvent) {
        let number = self.log.append(event, Instant::now());
        let each: Vec<_> = self.each().values().map(|teller| teller.progress.clone()).collect();
        let all = join_all(each.into_iter().map(async |mut progress| {
            // An error means that the edge is gone from the fleet.
            let _ = progress.wait_for(|edge| edge.told >= number || !edge.reachable).await;
        }));
        if timeout(LONGEST, all).await.is_err() {
            tracing::warn!("not every edge acknowledged a session event in time; retrying in the background");
        }
    }

    /// Has a teller for each edge that the stream knows, for ever.
    pub(super) async fn follow(&self, shared: &Arc<Shared>) -> Infallible {
        let mut published = shared.current.subscribe();
        loop {
            published.borrow_and_update();
            self.update(shared);
            if published.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn update(&self, shared: &Arc<Shared>) {
        let (snapshot, mine) = (shared.current.load_full(), shared.peers.held().edge());
        let mut each = self.each();
        each.retain(|edge, teller| snapshot.peers.get(edge) == Some(&teller.peer));
        for (edge, peer) in snapshot.peers.iter().filter(|(edge, _)| ***edge != *mine) {
            if !each.contains_key(edge) {
                each.insert(edge.clone(), self.teller(edge, peer, shared));
            }
        }
        self.metrics.peers_known.set(i64::try_from(each.len()).unwrap_or(i64::MAX));
    }

    fn teller(&self, edge: &str, peer: &EdgePeer, shared: &Arc<Shared>) -> Teller {
        let start = Progress { told: self.log.recalled(Instant::now()), reachable: true };
        let (sender, progress) = watch::channel(start);
        let telling = Telling {
            edge: edge.into(),
            log: Arc::clone(&self.log),
            channels: Arc::clone(&self.channels),
            metrics: Arc::clone(&self.metrics),
            shared: Arc::downgrade(shared),
            progress: sender,
        };
        let telling = AbortOnDropHandle::new(tokio::spawn(telling.run()));
        Teller { peer: peer.clone(), progress, _telling: telling }
    }

    fn each(&self) -> MutexGuard<'_, HashMap<Box<str>, Teller>> {
        self.each.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Telling {
    async fn run(self) {
        let (mut newest, mut pause, mut missing) = (self.log.newest(), PAUSE, None);
        loop {
            let told = self.progress.borrow().told;
            if newest.wait_for(|newest| *newest > told).await.is_err() {
                return;
            }
            match self.once(told).await {
                Ok(told) => {
                    if missing.take().is_some() {
                        tracing::info!(edge = &*self.edge, "another edge is reachable again");
                    }
                    pause = PAUSE;
                    self.progress.send_replace(Progress { told, reachable: true });
                }
                Err(status) => {
                    if missing.is_none() {
                        tracing::warn!(edge = &*self.edge, %status, "cannot send session events to another edge");
                    }
                    missing.get_or_insert_with(|| self.metrics.peers_unreachable.enter());
                    self.progress.send_modify(|edge| edge.reachable = false);
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Tells what is next. Returns how far that leads.
    async fn once(&self, told: u64) -> Result<u64, Status> {
        match self.log.after(told) {
            Due::Events(events, upto) => {
                self.send(events).await?;
                Ok(upto)
            }
            Due::Everything(upto) => {
                let shared = self.shared.upgrade().ok_or_else(|| Status::cancelled("stopping"))?;
                for events in recall::everything(&shared) {
                    self.send(events).await?;
                }
                Ok(upto)
            }
        }
    }

    async fn send(&self, events: Vec<SessionEvent>) -> Result<(), Status> {
        let mut edge = self.channels.to(&self.edge).ok_or_else(|| Status::not_found("it is gone"))?;
        let telling = timeout(PATIENCE, edge.tell(TellRequest { events })).await;
        telling.map_err(|_| Status::deadline_exceeded("no response in time"))?.map(drop)
    }
}
