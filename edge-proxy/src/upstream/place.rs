//! The places of calls that go on or wait after their request, which tokens share.
//!
//! It must not know what the calls are.

use std::sync::Arc;

use inbound::{Share, Shares};

use super::context::Environment;
use crate::error::Fault;
use crate::fleet::Waiter;
use crate::identity::Principal;
use crate::observe::{Bound, Gauge, GaugeGuard};

/// The place of one call, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _counted: GaugeGuard,
    _share: Share<Arc<Shares>>,
}

/// What one edge has places for, by token.
#[derive(Debug, Default)]
pub struct Places {
    parked: Arc<Shares>,
    without_client: Arc<Shares>,
}

/// There is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoPlace {
    /// True if the token has its share of them.
    pub of_token: bool,
}

impl Place {
    /// Takes the place of a call that waits for client input, and registers its waiter.
    pub(super) fn parked(environment: &Environment, principal: &Principal) -> Result<(Waiter, Self), Fault> {
        let (taken, max) = (&environment.metrics.parked_calls, environment.limits.max_parked_calls);
        let place = Self::take(environment, taken, max, Bound::ParkedCalls, principal);
        let place = place.map_err(|NoPlace { of_token }| Fault::TooManyParkedCalls { of_token })?;
        let waiter = environment.fleet.waiters().register();
        Ok((waiter.ok_or(Fault::TooManyParkedCalls { of_token: false })?, place))
    }

    /// Takes the place of a call that goes on without its client. So many may go on as may be in flight.
    pub(super) fn without_client(environment: &Environment, principal: &Principal) -> Result<Self, NoPlace> {
        let (taken, max) = (&environment.metrics.calls_without_client, environment.limits.max_in_flight);
        Self::take(environment, taken, max, Bound::CallsWithoutClient, principal)
    }

    fn take(
        environment: &Environment,
        taken: &Gauge,
        max: usize,
        bound: Bound,
        principal: &Principal,
    ) -> Result<Self, NoPlace> {
        let counted = taken.enter_below(max).ok_or(NoPlace { of_token: false })?;
        let free = max.saturating_sub(usize::try_from(taken.get()).unwrap_or_default());
        let Places { parked, without_client } = &environment.places;
        let shares = if bound == Bound::ParkedCalls { parked } else { without_client };
        match Share::take(Arc::clone(shares), principal.holder, free) {
            Ok(share) => Ok(Self { _counted: counted, _share: share }),
            Err(_) => {
                environment.metrics.shares_refused(bound).inc();
                Err(NoPlace { of_token: true })
            }
        }
    }
}
