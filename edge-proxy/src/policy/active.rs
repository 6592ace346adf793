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

use super::{Caller, Denied, Facts, Masks, Permit, ReadableUris};
use crate::error::Failure;
use crate::identity::Principal;
use crate::session::BegunCall;
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
    address: Option<IpAddr>,
    /// The part of the server that the permit was checked with last.
    view: RefCell<Arc<View>>,
    permit: Permit,
    /// When it was judged last, in seconds since the Unix epoch.
    judged_at: Cell<u64>,
    /// The answer that the same request would get now, once that is a refusal.
    withdrawn: RefCell<Option<Failure>>,
    waker: RefCell<Option<Waker>>,
    /// Whether the caller wants no more of what the permit is for.
    given_up: Cell<bool>,
    /// What its client goes on with. `None`: nothing held the call back.
    begun: RefCell<Option<BegunCall>>,
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
            judged_at: Cell::new(caller.facts.now),
            withdrawn: RefCell::default(),
            waker: RefCell::default(),
            given_up: Cell::default(),
            begun: RefCell::default(),
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

    /// Notes that the call was approved, and what its client goes on with.
    pub fn begin(&self, call: BegunCall) {
        self.state.begun.replace(Some(call));
    }

    /// Whether it is withdrawn.
    #[cfg(test)]
    pub(super) fn is_withdrawn(&self) -> bool {
        self.state.withdrawn.borrow().is_some()
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

    /// The name or URI that the upstream knows the target by.
    pub fn original(&self) -> &str {
        self.0.permit.original()
    }

    /// What rules judged the arguments of the call by.
    pub fn judged_by(&self) -> Option<u128> {
        self.0.permit.judged_by()
    }

    /// What is taken away from the result of the call. `None`: nothing.
    pub fn masks(&self) -> Option<&Masks> {
        self.0.permit.masks().map(AsRef::as_ref)
    }

    /// Whether the call was held back, and approved.
    pub fn is_approved(&self) -> bool {
        self.0.begun.borrow().is_some()
    }

    /// What the client goes on with of a call that was approved. `None`: nothing held it back.
    pub fn begun(&self) -> Option<BegunCall> {
        self.0.begun.borrow().clone()
    }

    /// Notes that the client has gone on with it in another request.
    pub fn go_on(&self) {
        let begun = self.0.begun.take();
        self.0.begun.replace(begun.map(BegunCall::gone_on));
    }

    /// The principal that it was given to.
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// Holds the permit from now on. One that was withdrawn already stays so.
    pub fn hold(&self) -> ActivePermit {
        let State {
            permits,
            principal,
            address,
            view,
            permit,
            judged_at,
            withdrawn,
            waker: _,
            given_up,
            begun,
        } = &*self.0;
        ActivePermit::register(State {
            permits: Rc::clone(permits),
            principal: Arc::clone(principal),
            address: *address,
            view: view.clone(),
            permit: permit.clone(),
            judged_at: judged_at.clone(),
            withdrawn: withdrawn.clone(),
            waker: RefCell::default(),
            given_up: given_up.clone(),
            begun: begun.clone(),
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
        super::check_again(&caller, &self.permit, &known, self.judged_at.get())
            .map_err(|denied| denied.of_target(&self.permit.target().named()))?;
        self.judged_at.set(now);
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
    use mcp::method::Method;
    use trunkline::edge::v1 as wire;

    use super::*;
    use crate::error::Unmet;
    use crate::identity::PrincipalKind;
    use crate::policy::{self, Reason};
    use crate::route::{NamedTarget, TargetKind};
    use crate::snapshot::build::Resources;
    use crate::snapshot::build::tests::{builder, entry, fixture, server};

    const ANY: policy::Arguments<'_> = policy::Arguments::Of(None);

    fn principal() -> Arc<Principal> {
        let (uid, name) = ("uid-all".into(), "tokens/all".into());
        Arc::new(Principal::new(PrincipalKind::Token, uid, name, None))
    }

    fn is_withdrawn(active: &ActivePermit) -> bool {
        active.is_withdrawn()
    }

    /// A window is a matter of time alone: no snapshot says that it closes.
    #[test]
    fn a_permit_is_withdrawn_when_a_window_closes() {
        let principal = principal();
        let facts = |now| Facts { address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), now };
        let mut resources = fixture();
        let token = &mut resources.tokens[0];
        token.access = Some(wire::Access {
            servers: std::mem::take(&mut token.servers),
            tools: std::mem::take(&mut token.tools),
            // 1970 began on a Thursday.
            windows: vec!["Thu 00:10-00:20 UTC".into()],
            ..wire::Access::default()
        });
        let snapshot = builder(&resources).compile(1).snapshot;
        let closed = policy::admit(&snapshot, &principal, "dev", facts(599)).unwrap_err();
        let opens_in =
            |opens_in| Denied::Condition(Reason::Unmet(Unmet::Window { opens_in: Some(opens_in) }));
        assert_eq!(closed, opens_in(1));
        let caller = policy::admit(&snapshot, &principal, "dev", facts(600)).unwrap();
        let permit =
            policy::check(&caller, Method::ToolsCall, &NamedTarget::of(TargetKind::Tool, "time_set"), ANY)
                .unwrap();
        let permits = Rc::new(ActivePermits::default());
        let active = permits.hold(caller, &permit);
        permits.review(&snapshot, true, 1_199);
        assert!(!is_withdrawn(&active));
        assert_eq!(policy::remaining(&snapshot, &principal, 1_199).unwrap().as_secs(), 1);
        permits.review(&snapshot, true, 1_200);
        let failure = active.state.withdrawn.borrow().clone();
        let a_week = 7 * 86_400;
        assert_eq!(failure, Some(opens_in(a_week - 600).of_server()));
        assert_eq!(
            policy::admit(&snapshot, &principal, "dev", facts(a_week + 599)).unwrap_err(),
            opens_in(1)
        );
    }

    /// Methods are in no view, so a view that is the same must not hide that one is taken.
    #[test]
    fn a_permit_is_withdrawn_with_the_method_that_it_is_for() {
        let principal = principal();
        let facts = Facts { address: None, now: 1 };
        let resources = |methods: &[&str]| {
            let mut resources = fixture();
            let token = &mut resources.tokens[0];
            token.access = Some(wire::Access {
                servers: std::mem::take(&mut token.servers),
                tools: std::mem::take(&mut token.tools),
                methods: methods.iter().map(|method| (*method).to_owned()).collect(),
                ..wire::Access::default()
            });
            resources
        };
        let mut builder = builder(&resources(&["tools/call", "tasks/get"]));
        let first = builder.compile(1).snapshot;
        let caller = policy::admit(&first, &principal, "dev", facts).unwrap();
        let named = NamedTarget::of(TargetKind::Tool, "time_set");
        let permits = Rc::new(ActivePermits::default());
        let [call, task] = [Method::ToolsCall, Method::TasksGet]
            .map(|method| permits.hold(caller, &policy::check(&caller, method, &named, ANY).unwrap()));
        assert_eq!(policy::check(&caller, Method::TasksCancel, &named, ANY).unwrap_err(), Denied::Method);
        let taken = resources(&["tools/call"]).candidates();
        taken.into_iter().for_each(|candidate| builder.accept(candidate).unwrap());
        let second = builder.compile(2).snapshot;
        assert!(Arc::ptr_eq(caller.view(), policy::admit(&second, &principal, "dev", facts).unwrap().view()));
        permits.review(&second, true, 1);
        assert_eq!((is_withdrawn(&call), is_withdrawn(&task)), (false, true));
        assert_eq!(*task.state.withdrawn.borrow(), Some(Failure::Method));
    }

    #[test]
    fn a_permit_is_withdrawn_when_its_caller_no_longer_sees_the_target() {
        let (principal, now) = (principal(), 1);
        let facts = Facts { address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), now };
        let mut resources = fixture();
        let mut builder = builder(&resources);
        let first = builder.compile(1).snapshot;
        let caller = policy::admit(&first, &principal, "dev", facts).unwrap();
        let permit =
            policy::check(&caller, Method::ToolsCall, &NamedTarget::of(TargetKind::Tool, "time_set"), ANY)
                .unwrap();
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
