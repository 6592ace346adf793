//! Counts the edges that are connected, to this replica and to all.
//!
//! It must not know what for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::fleet::{Fleet, SILENCE};
use crate::clock;
use crate::error::Error;

/// How long what the table of edges says of other replicas is good for.
const GOOD_FOR: Duration = Duration::from_secs(2);

/// The edges that are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EdgeCounts {
    /// To this replica; at least one.
    pub(super) here: i64,
    /// To any.
    pub(super) all: i64,
}

/// Counts the edges that are connected.
#[derive(Debug)]
pub(super) struct EdgeCounter {
    fleet: Arc<Fleet>,
    elsewhere: Mutex<Option<(Instant, i64)>>,
}

impl EdgeCounter {
    /// Counts those of this fleet.
    pub(super) fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet, elsewhere: Mutex::default() }
    }

    /// Counts them, other replicas' as of a moment ago.
    pub(super) async fn count(&self) -> Result<EdgeCounts, Error> {
        let here = i64::try_from(self.fleet.connected_here()).unwrap_or(i64::MAX).max(1);
        Ok(EdgeCounts { here, all: here.saturating_add(self.elsewhere().await?) })
    }

    async fn elsewhere(&self) -> Result<i64, Error> {
        let mut known = self.elsewhere.lock().await;
        if let Some((_, count)) = known.filter(|(read, _)| read.elapsed() < GOOD_FOR) {
            return Ok(count);
        }
        let since_us = clock::now_us() - clock::duration_us(SILENCE);
        let count = self.fleet.edges.connected_elsewhere(&self.fleet.replica, since_us).await?;
        *known = Some((Instant::now(), count));
        Ok(count)
    }
}
