//! Permits in use, each withdrawn when it would no longer be given.
//!
//! A request is checked when it comes, and what it began may go on for hours. So whatever it began holds its permit here,
//! to be checked again. It must not know what permits are used for, nor when they are checked. See
//! docs/adr/0015-withdrawn-rights.md.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::{Caller, Denied, Facts, Permit, ReadableUris};
use crate::error::Failure;
use crate::identity::Principal;
use crate::snapshot::{Snapshot, View};

/// The permits that one worker uses.
#[derive(Default)]
pub struct ActivePermits {
    permits: RefCell<HashMap<u64, Rc<State>>>,
    next: Cell<u64>,
}

/// A permit in use, until it is dropped.
pub struct ActivePermit {
    number: u64,
    state: Rc<State>,
}

/// The permit of a request, for what goes on after the request: it is not checked again until it is held.
#[derive(Clone)]
pub struct SharedPermit(Rc<State>);

struct State {
    permits: Rc<ActivePermits>,
    principal: Arc<Principal>,
    address: IpAddr,
    /// The part of the server that the permit was checked with last.
    view: RefCell<Arc<View>>,
    permit: Permit,
    /// The answer that the same request would get now, once that is a refusal.
    withdrawn: RefCell<Option<Failure>>,
    waker: RefCell<Option<Waker>>,
    /// Whether the caller wants no more of what the permit is for.
    given_up: Cell<bool>,
}

impl ActivePermits {
    /// Registers a permit that `caller` uses from now on.
    pub fn hold(self: &Rc<Self>, caller: Caller<'_>, permit: &Permit) -> ActivePermit {
        ActivePermit::register(State {
            permits: Rc::clone(self),
            principal: Arc::clone(caller.principal),
            address: caller.facts.address,
            view: RefCell::new(Arc::clone(caller.view)),
            permit: permit.clone(),
            withdrawn: RefCell::default(),
            waker: RefCell::default(),
            given_up: Cell::default(),
        })
    }

    /// Withdraws the permits that `snapshot` does not give; all if no bearer is believed.
    pub fn review(&self, snapshot: &Snapshot, believed: bool, now: u64) {
        for state in self.permits.borrow().values() {
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

impl ActivePermit {
    fn register(state: State) -> Self {
        let (permits, state) = (Rc::clone(&state.permits), Rc::new(state));
        let number = permits.next.get();
        permits.next.set(number.wrapping_add(1));
        permits.permits.borrow_mut().insert(number, Rc::clone(&state));
        Self { number, state }
    }

    /// Returns the permit for what goes on after the request.
    pub fn share(&self) -> SharedPermit {
        SharedPermit(Rc::clone(&self.state))
    }

    /// Waits until it is withdrawn. Returns the failure that the same request would get now. One waits at a time.
    pub async fn withdrawn(&self) -> Failure {
        poll_fn(|context| match &*self.state.withdrawn.borrow() {
            Some(failure) => Poll::Ready(failure.clone()),
            None => {
                *self.state.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl Drop for ActivePermit {
    fn drop(&mut self) {
        self.state.permits.permits.borrow_mut().remove(&self.number);
    }
}

impl SharedPermit {
    /// The URIs by which the caller may read resources of the upstream of the permit, for one message of it.
    pub fn readable(&self) -> ReadableUris<'_> {
        ReadableUris::new(Arc::clone(&self.0.view.borrow()), &self.0.permit.entry().upstream)
    }

    /// The principal that it was given to.
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// Holds the permit from now on. One that was withdrawn already stays so.
    pub fn hold(&self) -> ActivePermit {
        let State { permits, principal, address, view, permit, withdrawn, waker: _, given_up } = &*self.0;
        ActivePermit::register(State {
            permits: Rc::clone(permits),
            principal: Arc::clone(principal),
            address: *address,
            view: view.clone(),
            permit: permit.clone(),
            withdrawn: withdrawn.clone(),
            waker: RefCell::default(),
            given_up: given_up.clone(),
        })
    }

    /// Notes that the caller wants no more of what the permit is for.
    pub fn give_up(&self) {
        self.0.given_up.set(true);
    }

    /// Whether the caller wants no more of what the permit is for.
    pub fn is_given_up(&self) -> bool {
        self.0.given_up.get()
    }
}

impl State {
    fn check(&self, snapshot: &Snapshot, now: u64) -> Result<(), Failure> {
        let facts = Facts { address: self.address, now };
        let known = Arc::clone(&self.view.borrow());
        let caller =
            super::admit_again(snapshot, &self.principal, [&known.server.id, &known.server.uid], facts)
                .map_err(Denied::of_server)?;
        super::check_again(&caller, &self.permit, &known)
            .map_err(|denied| denied.of_target(&self.permit.target().named()))?;
        if !Arc::ptr_eq(caller.view, &known) {
            self.view.replace(Arc::clone(caller.view));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use delta::client::Sink as _;

    use super::*;
    use crate::identity::PrincipalKind;
    use crate::policy;
    use crate::route::{NamedTarget, TargetKind};
    use crate::snapshot::build::Resources;
    use crate::snapshot::build::tests::{builder, entry, fixture, server};

    fn principal() -> Arc<Principal> {
        let (uid, name) = ("uid-all".into(), "tokens/all".into());
        Arc::new(Principal::new(PrincipalKind::Token, uid, name, None))
    }

    fn is_withdrawn(active: &ActivePermit) -> bool {
        active.state.withdrawn.borrow().is_some()
    }

    #[test]
    fn a_permit_is_withdrawn_when_its_caller_no_longer_sees_the_target() {
        let (principal, now) = (principal(), 1);
        let facts = Facts { address: IpAddr::V4(Ipv4Addr::LOCALHOST), now };
        let mut resources = fixture();
        let mut builder = builder(&resources);
        let first = builder.compile(1).snapshot;
        let caller = policy::admit(&first, &principal, "dev", facts).unwrap();
        let permit = policy::check(&caller, &NamedTarget::of(TargetKind::Tool, "time_set")).unwrap();
        let permits = Rc::new(ActivePermits::default());
        let active = permits.hold(caller, &permit);
        let shared = active.share();
        let view = || Arc::as_ptr(&active.state.view.borrow());
        let mut review = |resources: &Resources| {
            resources.candidates().into_iter().for_each(|candidate| builder.accept(candidate).unwrap());
            permits.review(&builder.compile(2).snapshot, true, now);
        };

        let before = view();
        resources.servers.push(server("other", vec![entry("t", "upstreams/time/tools/now")]));
        review(&resources);
        assert_eq!(view(), before, "another server concerns no call here");

        resources.servers[0].tools.push(entry("more", "upstreams/time/tools/now"));
        review(&resources);
        assert_ne!(view(), before, "the permit was checked with what the caller sees now");
        assert!(!is_withdrawn(&active));

        let held = shared.hold();
        resources.servers[0].tools.remove(1);
        review(&resources);
        assert!(is_withdrawn(&active) && is_withdrawn(&held));
        assert!(is_withdrawn(&shared.hold()), "what begins later knows");
        drop((active, held));
        assert!(permits.permits.borrow().is_empty(), "nothing is checked that nobody holds");
    }
}
