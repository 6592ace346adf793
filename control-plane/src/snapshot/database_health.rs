//! The time at which the database last confirmed the newest snapshot.
//!
//! It must not know snapshots.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::clock;

/// Shared by whoever finds out and whoever asks.
#[derive(Debug, Clone, Default)]
pub struct DatabaseHealth(Arc<AtomicI64>);

impl DatabaseHealth {
    /// Tells whether the database confirmed it within the last `limit`. Otherwise there may be changes that this replica does not
    /// know, or cannot read.
    pub fn within(&self, limit: Duration) -> bool {
        clock::now_us() - self.0.load(Ordering::Relaxed) <= clock::duration_us(limit)
    }

    /// Says that the database just answered, and that nothing is newer.
    pub fn confirm(&self) {
        self.0.store(clock::now_us(), Ordering::Relaxed);
    }
}
