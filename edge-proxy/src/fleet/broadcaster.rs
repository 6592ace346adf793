//! Broadcasts events of sessions to the siblings: to each in order, and as fast as it takes them.
//!
//! It must not know what the events mean. A sibling that cannot be reached is retried until it can, or until
//! the snapshot no longer has it; nobody waits for it meanwhile.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use trunkline::edge::v1::{ApplyEventsRequest, SessionEvent};

use super::event_log::{EventLog, Pending};
use super::local_edge::LocalEdge;
use super::sibling_clients::SiblingClients;
use crate::observe::Metrics;
use crate::snapshot::Sibling;

/// The time limit of one message; past it the sibling counts as unreachable.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that a client waits for all siblings.
const BROADCAST_TIMEOUT: Duration = Duration::from_secs(4);
/// The pause before the first retry, and the longest that doubling makes of it.
const PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// One feed for each sibling, out of one log.
#[derive(Debug)]
pub(super) struct Broadcaster {
    event_log: Arc<EventLog>,
    sibling_clients: Arc<SiblingClients>,
    metrics: Arc<Metrics>,
    feeds: Mutex<HashMap<Box<str>, Feed>>,
}

/// The feed of one sibling. Dropping it ends its task.
#[derive(Debug)]
struct Feed {
    sibling: Sibling,
    progress: watch::Receiver<Progress>,
    _task: AbortOnDropHandle<()>,
}

/// The progress of one sibling.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// Everything up to this number is in force there.
    sent: u64,
    /// True if it answered the last message.
    reachable: bool,
}

/// The task that feeds one sibling.
struct FeedTask<L> {
    edge: Box<str>,
    event_log: Arc<EventLog>,
    sibling_clients: Arc<SiblingClients>,
    metrics: Arc<Metrics>,
    local: Weak<L>,
    progress: watch::Sender<Progress>,
}

impl Broadcaster {
    /// Without feeds yet.
    pub(super) fn new(sibling_clients: Arc<SiblingClients>, metrics: Arc<Metrics>) -> Self {
        Self { event_log: Arc::new(EventLog::new()), sibling_clients, metrics, feeds: Mutex::default() }
    }

    /// Sends an event to all siblings, and waits for those that can be reached.
    pub(super) async fn broadcast(&self, event: SessionEvent) {
        let number = self.event_log.append(event, Instant::now());
        let feeds: Vec<_> = self.feeds().values().map(|feed| feed.progress.clone()).collect();
        let all = join_all(feeds.into_iter().map(async |mut progress| {
            // An error means that the sibling is gone from the fleet.
            let _ = progress.wait_for(|edge| edge.sent >= number || !edge.reachable).await;
        }));
        if timeout(BROADCAST_TIMEOUT, all).await.is_err() {
            tracing::warn!("not every edge acknowledged a session event in time; retrying in the background");
        }
    }

    /// Keeps a feed for each sibling in the snapshot, for ever.
    pub(super) async fn run(&self, local: &Arc<impl LocalEdge>) -> Infallible {
        let mut published = local.current().subscribe();
        loop {
            published.borrow_and_update();
            self.update(local);
            if published.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn update(&self, local: &Arc<impl LocalEdge>) {
        let (snapshot, own_id) = (local.current().load_full(), local.fleet().waiters().edge());
        let mut feeds = self.feeds();
        feeds.retain(|edge, feed| snapshot.siblings.get(edge) == Some(&feed.sibling));
        for (edge, sibling) in snapshot.siblings.iter().filter(|(edge, _)| ***edge != *own_id) {
            if !feeds.contains_key(edge) {
                feeds.insert(edge.clone(), self.feed(edge, sibling, local));
            }
        }
        self.metrics.siblings_known.set(i64::try_from(feeds.len()).unwrap_or(i64::MAX));
    }

    fn feed(&self, edge: &str, sibling: &Sibling, local: &Arc<impl LocalEdge>) -> Feed {
        let start = Progress { sent: self.event_log.synced_through(Instant::now()), reachable: true };
        let (sender, progress) = watch::channel(start);
        let task = FeedTask {
            edge: edge.into(),
            event_log: Arc::clone(&self.event_log),
            sibling_clients: Arc::clone(&self.sibling_clients),
            metrics: Arc::clone(&self.metrics),
            local: Arc::downgrade(local),
            progress: sender,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(task.run()));
        Feed { sibling: sibling.clone(), progress, _task: task }
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<Box<str>, Feed>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: LocalEdge> FeedTask<L> {
    async fn run(self) {
        let (mut newest, mut pause, mut missing) = (self.event_log.newest(), PAUSE, None);
        loop {
            let sent = self.progress.borrow().sent;
            if newest.wait_for(|newest| *newest > sent).await.is_err() {
                return;
            }
            match self.send_pending(sent).await {
                Ok(sent) => {
                    if missing.take().is_some() {
                        tracing::info!(edge = &*self.edge, "another edge is reachable again");
                    }
                    pause = PAUSE;
                    self.progress.send_replace(Progress { sent, reachable: true });
                }
                Err(status) => {
                    if missing.is_none() {
                        tracing::warn!(edge = &*self.edge, %status, "cannot send session events to another edge");
                    }
                    missing.get_or_insert_with(|| self.metrics.siblings_unreachable.enter());
                    self.progress.send_modify(|edge| edge.reachable = false);
                    sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    /// Sends what is next. Returns the number that it leads to.
    async fn send_pending(&self, sent: u64) -> Result<u64, Status> {
        match self.event_log.after(sent) {
            Pending::Events(events, through) => {
                self.send(events).await?;
                Ok(through)
            }
            Pending::Everything(through) => {
                let local = self.local.upgrade().ok_or_else(|| Status::cancelled("stopping"))?;
                for events in local.all_events() {
                    self.send(events).await?;
                }
                Ok(through)
            }
        }
    }

    async fn send(&self, events: Vec<SessionEvent>) -> Result<(), Status> {
        let mut sibling =
            self.sibling_clients.to(&self.edge).ok_or_else(|| Status::not_found("it is gone"))?;
        let answered = timeout(SEND_TIMEOUT, sibling.apply_events(ApplyEventsRequest { events })).await;
        answered.map_err(|_| Status::deadline_exceeded("no response in time"))?.map(drop)
    }
}
