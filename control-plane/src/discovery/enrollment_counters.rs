//! Requests to enrol, counted by their outcome.
//!
//! It must not know how they are published.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::enrollments::Outcome;

/// The counters of one replica since its start.
#[derive(Debug, Default)]
pub struct EnrollmentCounters {
    enrolled: AtomicU64,
    replaced: AtomicU64,
    repeated: AtomicU64,
    edge_exists: AtomicU64,
    token_refused: AtomicU64,
}

impl EnrollmentCounters {
    /// Counts a request.
    pub(super) fn count(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Enrolled(_) => &self.enrolled,
            Outcome::Replaced(_) => &self.replaced,
            Outcome::Repeated(_) => &self.repeated,
            Outcome::Taken => &self.edge_exists,
            Outcome::TokenRefused(_) => &self.token_refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads the counters, each with the name of its outcome.
    pub fn read(&self) -> [(&'static str, u64); 5] {
        [
            ("enrolled", &self.enrolled),
            ("replaced", &self.replaced),
            ("repeated", &self.repeated),
            ("edge_exists", &self.edge_exists),
            ("token_refused", &self.token_refused),
        ]
        .map(|(outcome, counter)| (outcome, counter.load(Ordering::Relaxed)))
    }
}
