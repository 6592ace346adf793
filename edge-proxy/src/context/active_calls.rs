//! Calls in flight, each of which ends when the right to make it is withdrawn.
//!
//! A request is checked when it comes, and its answer may go on for hours. So every call of a worker is checked again
//! whenever another snapshot is in force, and every half second for rights that expire. It must not know how clients or
//! upstreams are spoken to. See docs/adr/0015-withdrawn-rights.md.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use mcp::sse;

use super::permits::StreamPermit;
use super::worker::WorkerState;
use crate::error::{ErrorContext, Failure};
use crate::identity::Principal;
use crate::policy::{self, Caller, Facts, Permit};
use crate::session::SessionId;
use crate::snapshot::{Snapshot, View};
use crate::upstream::AnswerStream;

/// The interval of checks for expired rights.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// The calls that one worker is making.
#[derive(Default)]
pub struct ActiveCalls {
    calls: RefCell<HashMap<u64, Rc<State>>>,
    next: Cell<u64>,
}

/// One call in flight.
pub(crate) struct ActiveCall {
    worker: Rc<WorkerState>,
    number: u64,
    /// The legacy session that the request belongs to.
    session: Option<SessionId>,
    error_context: ErrorContext,
    state: Rc<State>,
}

struct State {
    principal: Arc<Principal>,
    address: IpAddr,
    /// The part of the server that the permit was checked with last.
    view: RefCell<Arc<View>>,
    permit: Permit,
    /// The answer that the same request would get now, once that is a refusal.
    withdrawn: RefCell<Option<Failure>>,
    waker: RefCell<Option<Waker>>,
}

impl ActiveCalls {
    /// Ends the calls that are no longer allowed: those that `snapshot` does not permit; all if no bearer is believed.
    fn review(&self, snapshot: &Snapshot, believed: bool, now: u64) {
        for state in self.calls.borrow().values() {
            let checked = if believed { state.check(snapshot, now) } else { Err(Failure::TrustStale) };
            if let Err(failure) = checked {
                state.withdrawn.borrow_mut().get_or_insert(failure);
                if let Some(waker) = state.waker.borrow_mut().take() {
                    waker.wake();
                }
            }
        }
    }
}

/// Reviews a worker's calls for as long as it lives.
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
        worker.active_calls.review(&current.load(), current.is_trust_fresh(now), now);
    }
}

impl State {
    fn check(&self, snapshot: &Snapshot, now: u64) -> Result<(), Failure> {
        let facts = Facts { address: self.address, now };
        let known = Arc::clone(&self.view.borrow());
        let caller =
            policy::admit_again(snapshot, &self.principal, [&known.server.id, &known.server.uid], facts)
                .map_err(|denied| denied.failure(|| Failure::Server))?;
        // A view permits the same as long as it is the same, and most changes leave it so.
        if Arc::ptr_eq(caller.view(), &known) {
            return Ok(());
        }
        policy::check_again(&caller, &self.permit)
            .map_err(|denied| denied.failure(|| self.permit.target().named().unknown()))?;
        self.view.replace(Arc::clone(caller.view()));
        Ok(())
    }
}

impl ActiveCall {
    /// Registers a call that `caller` makes; `error_context` is that of its request.
    pub(crate) fn begin(
        worker: &Rc<WorkerState>,
        caller: Caller<'_>,
        permit: &Permit,
        session: Option<SessionId>,
        error_context: ErrorContext,
    ) -> Self {
        let state = Rc::new(State {
            principal: Arc::clone(caller.principal()),
            address: caller.facts().address,
            view: RefCell::new(Arc::clone(caller.view())),
            permit: permit.clone(),
            withdrawn: RefCell::default(),
            waker: RefCell::default(),
        });
        let calls = &worker.active_calls;
        let number = calls.next.get();
        calls.next.set(number.wrapping_add(1));
        calls.calls.borrow_mut().insert(number, Rc::clone(&state));
        Self { worker: Rc::clone(worker), number, session, error_context, state }
    }

    /// Waits until the right to make the call is withdrawn. Returns the failure that the same request would get now.
    pub(crate) async fn withdrawn(&self) -> Failure {
        poll_fn(|context| match &*self.state.withdrawn.borrow() {
            Some(failure) => Poll::Ready(failure.clone()),
            None => {
                *self.state.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// Stops the task that carries the call on, if there is one, which tells the upstream.
    pub(crate) fn stop(&self) {
        if let (Some(session), Some(id)) = (self.session, &self.error_context.id) {
            self.worker.upstreams.withdraw(session, id);
        }
    }

    /// Continues as a stream of the answer's events, which holds `permit` until it ends.
    pub(crate) fn stream(self, events: AnswerStream, permit: Option<StreamPermit>) -> CallStream {
        CallStream { active: self, events, _permit: permit }
    }
}

impl Drop for ActiveCall {
    fn drop(&mut self) {
        self.worker.active_calls.calls.borrow_mut().remove(&self.number);
    }
}

/// The stream of a call's answer, which ends when the right to make the call is withdrawn.
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
        // First the stream: it tells the upstream itself, and is no longer found by its session after that.
        self.events.withdraw();
        self.active.stop();
        failure.message(&self.active.error_context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use delta::client::Sink as _;

    use super::*;
    use crate::identity::PrincipalKind;
    use crate::route::{NamedTarget, TargetKind};
    use crate::snapshot::build::tests::{builder, entry, fixture, server};

    #[test]
    fn a_permit_is_checked_again_only_when_what_its_caller_sees_changes() {
        let (uid, name) = ("uid-all".into(), "tokens/all".into());
        let principal = Arc::new(Principal { kind: PrincipalKind::Token, uid, name, expires: None });
        let (address, now) = (IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
        let mut resources = fixture();
        let mut builder = builder(&resources);
        let first = builder.compile(1).snapshot;
        let caller = policy::admit(&first, &principal, "dev", Facts { address, now }).unwrap();
        let target = NamedTarget::of(TargetKind::Tool, "time_set");
        let state = State {
            principal: Arc::clone(&principal),
            address,
            view: RefCell::new(Arc::clone(caller.view())),
            permit: policy::check(&caller, &target).unwrap(),
            withdrawn: RefCell::default(),
            waker: RefCell::default(),
        };
        let view = || Arc::as_ptr(&state.view.borrow());
        let mut after = |resources: &crate::snapshot::build::Resources| {
            resources.candidates().into_iter().for_each(|candidate| builder.accept(candidate).unwrap());
            builder.compile(2).snapshot
        };

        let before = view();
        resources.servers.push(server("other", vec![entry("t", "upstreams/time/tools/now")]));
        assert!(state.check(&after(&resources), now).is_ok());
        assert_eq!(view(), before, "another server concerns no call here");

        resources.servers[0].tools.push(entry("more", "upstreams/time/tools/now"));
        assert!(state.check(&after(&resources), now).is_ok());
        assert_ne!(view(), before, "the permit was checked with what the caller sees now");

        resources.servers[0].tools.remove(1);
        assert!(state.check(&after(&resources), now).is_err());
    }
}
