//! Ends approvals whose time is over, forgets them a month later, and counts those that wait.

use std::sync::Arc;
use std::time::Duration;

use super::counters::{ApprovalCounters, ApprovalEvent};
use crate::clock;
use crate::store::leases::Leases;
use crate::store::{Store, StoreError};

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(5);
/// The lease outlives a round that is late.
const LEASE: Duration = Duration::from_secs(60);
/// How long one is kept after its end.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// So many are stored at most, of those that have ended.
const MOST: i64 = 100_000;
/// How long ids of webhooks are kept: longer than one is taken.
const WEBHOOKS_KEPT: Duration = Duration::from_secs(3_600);

/// Keeps the table.
#[derive(Debug, Clone)]
pub struct ApprovalKeeper {
    /// Where it is.
    pub store: Store,
    /// Only one replica ends and forgets.
    pub leases: Leases,
    /// Where it is counted.
    pub counters: Arc<ApprovalCounters>,
}

impl ApprovalKeeper {
    /// Keeps the table, for ever.
    pub async fn run(self) {
        loop {
            if let Err(error) = self.round(clock::now_us()).await {
                tracing::warn!(%error, "cannot look after approvals; retrying");
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    /// Does what there is to be done at a time.
    pub async fn round(&self, now_us: i64) -> Result<(), StoreError> {
        let before_us = now_us - clock::duration_us(KEPT);
        if self.store.has_old_approvals(now_us, before_us).await?
            && self.leases.take("approvals", LEASE).await?.is_some()
        {
            let ended = self.store.end_approvals(now_us).await?;
            self.counters.add(ApprovalEvent::Expired, ended);
            self.store.forget_approvals(now_us, before_us, MOST).await?;
            self.store.forget_webhooks(now_us - clock::duration_us(WEBHOOKS_KEPT)).await?;
        }
        self.counters.set_pending(self.store.count_pending_approvals(now_us).await?);
        Ok(())
    }
}
