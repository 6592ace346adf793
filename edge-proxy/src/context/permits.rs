//! Permits for what is bounded: the streams that each token holds open, and the requests in flight.
//!
//! It must not know what flows in a stream.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use inbound::{Holder, Share, Shares};

use super::edge::EdgeState;
use crate::collections::{NoRoom, TwoGenerationCache};
use crate::error::Failure;
use crate::observe::{Bound, Gauge, GaugeGuard};

/// Tokens whose counts one worker finds without a lock.
const MAX_CACHED: usize = 10_000;
/// Counts that are kept before those that nobody holds are dropped.
const MIN_SWEPT: usize = 1_024;

/// Counts of open streams by the uid of the token, shared by the workers.
#[derive(Debug, Default)]
pub struct StreamCounts(Mutex<KnownCounts>);

#[derive(Debug, Default)]
struct KnownCounts {
    by_token: HashMap<Box<str>, Weak<AtomicUsize>>,
    /// The number of counts at which those that nobody holds are dropped.
    sweep_at: usize,
}

/// One worker's access to the counts. It takes no lock for a token whose streams it has counted lately.
#[derive(Debug)]
pub struct StreamPermits {
    counts: Arc<StreamCounts>,
    known: RefCell<TwoGenerationCache<Box<str>, Arc<AtomicUsize>>>,
}

/// The right to hold one stream open, until it is dropped.
#[derive(Debug)]
pub struct StreamPermit {
    count: Arc<AtomicUsize>,
    _counted: GaugeGuard,
}

/// The right to have one request in flight, until it is dropped.
pub struct InFlightPermit<'a> {
    edge: &'a EdgeState,
    _counted: GaugeGuard,
    share: Option<Share<&'a Shares>>,
}

impl StreamCounts {
    /// Returns the count of a token.
    fn of(&self, token: &str) -> Arc<AtomicUsize> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.by_token.get(token).and_then(Weak::upgrade) {
            return count;
        }
        if counts.by_token.len() >= counts.sweep_at {
            counts.by_token.retain(|_, count| count.strong_count() > 0);
            counts.sweep_at = (counts.by_token.len() * 2).max(MIN_SWEPT);
        }
        let count = Arc::default();
        counts.by_token.insert(token.into(), Arc::downgrade(&count));
        count
    }
}

impl StreamPermits {
    /// Creates one worker's access to `counts`.
    pub fn new(counts: Arc<StreamCounts>) -> Self {
        Self { counts, known: RefCell::new(TwoGenerationCache::new(MAX_CACHED)) }
    }

    /// Admits one more stream of a token, unless it holds `limit`. `open` counts it.
    pub fn acquire(&self, token: &str, limit: usize, open: &Gauge) -> Option<StreamPermit> {
        let count = self.count(token);
        let one_more = |count| (count < limit).then_some(count + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(StreamPermit { count, _counted: open.enter() })
    }

    fn count(&self, token: &str) -> Arc<AtomicUsize> {
        let mut known = self.known.borrow_mut();
        known.with(token, |count| Arc::clone(count)).unwrap_or_else(|| {
            let count = self.counts.of(token);
            known.insert(token.into(), Arc::clone(&count));
            count
        })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<'a> InFlightPermit<'a> {
    /// Admits one more request, unless there are too many. Its token is not known yet.
    pub(super) fn acquire(edge: &'a EdgeState) -> Result<Self, Failure> {
        let environment = &edge.environment;
        let counted = environment.metrics.in_flight.enter_below(environment.limits.max_in_flight);
        Ok(Self { edge, _counted: counted.ok_or(Failure::Overloaded)?, share: None })
    }

    /// Counts the request among those of its token, unless that has its share of them.
    pub fn charge(&mut self, holder: Holder) -> Result<(), Failure> {
        let environment = &self.edge.environment;
        let in_flight = usize::try_from(environment.metrics.in_flight.get()).unwrap_or_default();
        let free = environment.limits.max_in_flight.saturating_sub(in_flight);
        let share = Share::take(&self.edge.in_flight, holder, free);
        self.share = Some(share.map_err(|_| self.edge.no_room(Bound::InFlight, NoRoom::Share))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(permits: &StreamPermits, token: &str) -> Option<StreamPermit> {
        permits.acquire(token, 1, &Gauge::default())
    }

    #[test]
    fn a_token_holds_no_more_than_its_share_at_all_workers_together() {
        let counts = Arc::new(StreamCounts::default());
        let workers = [StreamPermits::new(Arc::clone(&counts)), StreamPermits::new(Arc::clone(&counts))];
        let first = streams(&workers[0], "a").unwrap();
        assert!(streams(&workers[0], "a").is_none());
        assert!(streams(&workers[1], "a").is_none());
        assert!(streams(&workers[1], "b").is_some());
        drop(first);
        assert!(streams(&workers[1], "a").is_some());
    }

    #[test]
    fn counts_that_nobody_holds_are_dropped_in_time_and_others_stay() {
        let counts = Arc::new(StreamCounts::default());
        let kept = StreamPermits::new(Arc::clone(&counts));
        let _open = streams(&kept, "kept").unwrap();
        for token in 0..10 * MIN_SWEPT {
            StreamPermits::new(Arc::clone(&counts))
                .acquire(&token.to_string(), 1, &Gauge::default())
                .unwrap();
        }
        assert!(counts.0.lock().unwrap().by_token.len() <= MIN_SWEPT);
        assert!(streams(&StreamPermits::new(counts), "kept").is_none());
    }
}
