//! Calls in flight, each of which ends when the permit for it is withdrawn.
//!
//! Permits are checked again whenever another snapshot is in force, and every half second for rights that expire. It must
//! not know how clients or upstreams are spoken to. See docs/adr/0015-withdrawn-rights.md.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use mcp::sse;

use super::permits::StreamPermit;
use super::worker::WorkerState;
use crate::error::{ErrorContext, Failure};
use crate::policy::{ActivePermit, Caller, Permit, SharedPermit};
use crate::session::BegunCall;
use crate::upstream::AnswerStream;

/// The interval of checks for expired rights.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Reviews a worker's permits for as long as it lives.
pub(crate) async fn watch(worker: Rc<WorkerState>) {
    let current = &worker.shared.environment.current;
    let mut published = current.subscribe();
    let mut tick = tokio::time::interval(CHECK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = published.changed() => if changed.is_err() { return },
            _ = tick.tick() => {}
        }
        let now = worker.now();
        worker.active_permits.review(&current.load(), current.is_trust_fresh(now), now);
    }
}

/// One call in flight.
pub(crate) struct ActiveCall {
    permit: ActivePermit,
    error_context: ErrorContext,
}

impl ActiveCall {
    /// Begins a call that `caller` makes; `error_context` is that of its request.
    pub(crate) fn begin(
        worker: &WorkerState,
        caller: Caller<'_>,
        permit: &Permit,
        error_context: ErrorContext,
    ) -> Self {
        Self { permit: worker.active_permits.hold(caller, permit), error_context }
    }

    /// Returns its permit, for what goes on after the request.
    pub(crate) fn share_permit(&self) -> SharedPermit {
        self.permit.share()
    }

    /// Notes that the call was approved, and what its client goes on with.
    pub(crate) fn begin_approved(&self, call: BegunCall) {
        self.permit.begin(call);
    }

    /// Waits until the permit is withdrawn. Returns the failure that the same request would get now.
    pub(crate) async fn withdrawn(&self) -> Failure {
        self.permit.withdrawn().await
    }

    /// Continues as a stream of the answer's events, which holds `permit` until it ends.
    pub(crate) fn stream(self, events: AnswerStream, permit: Option<StreamPermit>) -> CallStream {
        CallStream { active: self, events, _permit: permit }
    }
}

/// The stream of a call's answer, which ends when the permit for the call is withdrawn.
pub struct CallStream {
    active: ActiveCall,
    events: AnswerStream,
    /// None on a connection, and for an answer that has come as a whole.
    _permit: Option<StreamPermit>,
}

impl CallStream {
    /// Waits for the next encoded event; `None` at the end. The future may be dropped and made anew.
    pub async fn next(&mut self) -> Option<Bytes> {
        if self.events.is_finished() {
            return None;
        }
        tokio::select! {
            biased;
            failure = self.active.withdrawn() => Some(sse::encode_data(&self.refuse(&failure))),
            event = self.events.next() => event,
        }
    }

    /// Waits for the next message, for a client that is sent messages and no events; `None` at the end.
    pub async fn message(&mut self) -> Option<Bytes> {
        if self.events.is_finished() {
            return None;
        }
        tokio::select! {
            biased;
            failure = self.active.withdrawn() => Some(self.refuse(&failure)),
            message = self.events.message() => message,
        }
    }

    /// Waits for the answer alone, for a client that cannot be sent events.
    pub async fn last(mut self) -> Option<Bytes> {
        tokio::select! {
            biased;
            failure = self.active.withdrawn() => Some(self.refuse(&failure)),
            last = self.events.final_message() => last,
        }
    }

    fn refuse(&mut self, failure: &Failure) -> Bytes {
        self.events.withdraw();
        failure.message(&self.active.error_context)
    }
}
