//! Permits for what is bounded: the streams that each token holds open, and the requests in flight.
//!
//! It must not know what flows in a stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::observe::{Gauge, GaugeGuard};

/// Counts of open streams by the uid of the token.
#[derive(Debug, Default, Clone)]
pub struct StreamPermits(Arc<Mutex<HashMap<Box<str>, usize>>>);

/// The right to hold one stream open, until it is dropped.
#[derive(Debug)]
pub struct StreamPermit {
    permits: StreamPermits,
    token: Box<str>,
    _counted: GaugeGuard,
}

/// The right to have one request in flight, until it is dropped.
#[derive(Debug)]
pub struct InFlightPermit(#[expect(dead_code, reason = "held for its drop")] GaugeGuard);

impl StreamPermits {
    /// Admits one more stream of a token, unless it holds `limit`. `open` counts it.
    pub fn acquire(&self, token: &str, limit: usize, open: &Gauge) -> Option<StreamPermit> {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = streams.entry(token.into()).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(StreamPermit { permits: self.clone(), token: token.into(), _counted: open.enter() })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut streams = self.permits.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = streams.get_mut(&self.token) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.token);
            }
        }
    }
}

impl InFlightPermit {
    /// Admits one more request, unless `in_flight` counts `limit` already.
    pub fn acquire(in_flight: &Gauge, limit: usize) -> Option<Self> {
        in_flight.enter_below(limit).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_no_more_than_its_share_and_nothing_is_left_behind() {
        let (permits, open) = (StreamPermits::default(), Gauge::default());
        let first = permits.acquire("a", 1, &open).unwrap();
        assert!(permits.acquire("a", 1, &open).is_none());
        assert!(permits.acquire("b", 1, &open).is_some());
        drop(first);
        assert!(permits.0.lock().unwrap().is_empty());
        assert!(permits.acquire("a", 1, &open).is_some());
    }
}
