//! The state of one worker thread, which needs no lock because no other thread touches it.
//!
//! It must not know the order of the request pipeline.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::edge::EdgeState;
use super::permits::{StreamPermit, StreamPermits};
use crate::audit::Asked;
use crate::identity::{BearerCache, Principal};
use crate::limits::LimitCache;
use crate::os::clock;
use crate::policy::{ActivePermits, Denied, Facts};
use crate::session::SessionCache;
use crate::snapshot::Snapshot;
use crate::upstream::{self, SessionCommand};
use crate::usage::Shard;

/// The state of one worker thread.
pub struct WorkerState {
    /// The state shared with the other threads.
    pub shared: Arc<EdgeState>,
    /// Verified bearers.
    pub bearers: BearerCache,
    /// Opened session ids.
    pub sessions: SessionCache,
    /// Connections and sessions with upstreams.
    pub upstreams: Rc<upstream::Context>,
    /// Permits in use.
    pub active_permits: Rc<ActivePermits>,
    /// Permits for the streams that tokens hold open.
    pub streams: StreamPermits,
    /// What is left of the limits of tokens.
    pub limits: LimitCache,
    /// Counts of calls.
    pub usage: Rc<Shard>,
    /// Turns true when the edge is stopping.
    pub drain: watch::Receiver<bool>,
}

impl WorkerState {
    /// Creates a worker and the queue of commands that it executes.
    pub fn new(
        shared: Arc<EdgeState>,
        usage: Rc<Shard>,
        drain: watch::Receiver<bool>,
    ) -> (Rc<Self>, mpsc::Receiver<SessionCommand>) {
        let commands = shared.register_worker();
        let worker = Self {
            upstreams: Rc::new(upstream::Context::new(Arc::clone(&shared.environment))),
            streams: StreamPermits::new(Arc::clone(&shared.streams)),
            limits: LimitCache::new(Arc::clone(&shared.limits)),
            shared,
            bearers: BearerCache::default(),
            sessions: SessionCache::default(),
            active_permits: Rc::default(),
            usage,
            drain,
        };
        (Rc::new(worker), commands)
    }

    /// Admits one more stream or connection of a token, unless it holds too many.
    pub fn stream_permit(&self, token: &str) -> Option<StreamPermit> {
        let environment = &self.shared.environment;
        self.streams.acquire(token, environment.limits.max_streams_per_token, &environment.metrics.streams)
    }

    /// Records that policy refuses what was asked, unless there is no such thing.
    pub(super) fn record_refusal(&self, asked: Asked<'_>, denied: &Denied) {
        if let Some(reason) = denied.recorded_as() {
            self.shared.audit.refuse(&Asked { rule: denied.rule(), ..asked }, reason);
        }
    }

    /// Seconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        clock::now()
    }

    /// Returns whether the edge is stopping.
    pub fn is_draining(&self) -> bool {
        *self.drain.borrow()
    }
}

/// Something that a principal asks for, of no server yet.
pub(super) fn asked<'a>(principal: &'a Principal, facts: Facts, snapshot: &Snapshot) -> Asked<'a> {
    Asked {
        principal: (&principal.name, &principal.uid),
        address: facts.address,
        server: "",
        method: "",
        target: "",
        rule: "",
        revision: snapshot.revision,
    }
}
