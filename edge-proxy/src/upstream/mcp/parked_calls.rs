//! The places of calls that wait for client input, which tokens share.
//!
//! It must not know what the calls are, nor how the input arrives.

use std::sync::Arc;

use inbound::{Share, Shares};

use crate::error::Fault;
use crate::fleet::Waiter;
use crate::identity::Principal;
use crate::observe::{Bound, GaugeGuard};
use crate::upstream::Environment;

/// The place of one call that waits for client input, until it is dropped.
#[derive(Debug)]
pub(super) struct ParkedCallPermit {
    _counted: GaugeGuard,
    _share: Share<Arc<Shares>>,
}

impl ParkedCallPermit {
    /// Admits one more call of `principal`, unless too many wait.
    pub(super) fn acquire(environment: &Environment, principal: &Principal) -> Result<Self, Fault> {
        let (parked, max) = (&environment.metrics.parked_calls, environment.limits.max_parked_calls);
        let counted = parked.enter_below(max).ok_or(Fault::TooManyParkedCalls { of_token: false })?;
        let free = max.saturating_sub(usize::try_from(parked.get()).unwrap_or_default());
        let share = Share::take(Arc::clone(&environment.parked_calls), principal.holder, free);
        let share = share.map_err(|_| {
            environment.metrics.shares_refused(Bound::ParkedCalls).inc();
            Fault::TooManyParkedCalls { of_token: true }
        })?;
        Ok(Self { _counted: counted, _share: share })
    }

    /// Admits one more call, and registers its waiter.
    pub(super) fn with_waiter(
        environment: &Environment,
        principal: &Principal,
    ) -> Result<(Waiter, Self), Fault> {
        let permit = Self::acquire(environment, principal)?;
        let waiter = environment.fleet.waiters().register();
        Ok((waiter.ok_or(Fault::TooManyParkedCalls { of_token: false })?, permit))
    }
}
