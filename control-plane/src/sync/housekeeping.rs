//! Keys and counters grow old: replaces keys whose time has come, and forgets what nobody needs.
//!
//! It must not know how keys are made.

use std::sync::Arc;
use std::time::Duration;

use super::key_care::{KeyCare, KeyCareError};
use crate::auth::keys::{KeyError, Signer};
use crate::auth::vault::{Vault, VaultError};
use crate::auth::{session, throttle};
use crate::clock;
use crate::store::audit::Deed;
use crate::store::edges::Edges;
use crate::store::leases::Leases;
use crate::store::quotas::Quotas;
use crate::store::usage::UsageTable;
use crate::store::{Store, StoreError};

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(30);
/// The lease outlives a round that is late.
const LEASE: Duration = Duration::from_secs(90);
/// An edge that enrolled and was not connected for so long never will be: its credential has expired.
const UNUSED: Duration = Duration::from_secs(30 * 86_400);
/// A link that is over is kept for a day.
const LINKS_KEPT: Duration = Duration::from_secs(86_400);
/// What is recorded that was done.
const ROTATE: &str = "rotate";
/// What was leased of a quota is kept beyond the longest period, a month.
const QUOTAS: Duration = Duration::from_secs(33 * 86_400);

/// Housekeeping's dependencies.
#[derive(Debug)]
pub struct Housekeeping {
    /// The registry.
    pub store: Store,
    /// The leases.
    pub leases: Leases,
    /// The data keys.
    pub vault: Arc<Vault>,
    /// The keys that edges hold.
    pub signer: Arc<Signer>,
    /// The edges.
    pub edges: Edges,
    /// The counters.
    pub usage: UsageTable,
    /// What was leased of quotas.
    pub quotas: Quotas,
    /// Age at which the signing key is replaced.
    pub signing: Duration,
    /// Age at which the sealing key is replaced.
    pub sealing: Duration,
    /// Age at which counters are forgotten.
    pub retention: Duration,
}

#[derive(Debug, thiserror::Error)]
enum HousekeepingError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    KeyCare(#[from] KeyCareError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Housekeeping {
    /// Rotates keys and removes what has expired, round after round, while this replica holds the lease.
    pub async fn run(self) {
        loop {
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "housekeeping failed; retrying");
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    async fn round(&self) -> Result<(), HousekeepingError> {
        self.vault.load().await?;
        self.signer.load().await?;
        if self.leases.take("housekeeping", LEASE).await?.is_none() {
            return Ok(());
        }
        let rotated = self.rotate().await?;
        let mut changed = !rotated.is_empty();
        changed |= self.signer.activate_sealing().await?;
        let care = KeyCare::new(self.store.clone(), self.vault.clone(), self.signer.clone());
        changed |= care.round().await?;
        if changed {
            self.announce(&rotated).await?;
        }
        self.forget_withdrawals().await?;
        for edge in self.edges.forget_unused(clock::now_us() - clock::duration_us(UNUSED)).await? {
            tracing::info!(edge, "deleted an edge that enrolled 30 days ago and was never connected");
        }
        self.forget_sign_ins().await?;
        self.quotas.forget(clock::now_us() - clock::duration_us(QUOTAS)).await?;
        Ok(self.usage.forget(clock::now_us() - clock::duration_us(self.retention)).await?)
    }

    /// What was lost long ago, all of it under one revision.
    async fn forget_withdrawals(&self) -> Result<(), StoreError> {
        if self.store.has_old_withdrawals().await? {
            let mut tx = self.store.write().await?;
            tx.forget_withdrawals().await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Forgets sessions, links and tries to sign in that are over.
    async fn forget_sign_ins(&self) -> Result<(), StoreError> {
        let now_us = clock::now_us();
        self.store.forget_sessions(now_us, now_us - clock::duration_us(session::IDLE)).await?;
        self.store.forget_links(now_us - clock::duration_us(LINKS_KEPT)).await?;
        self.store
            .forget_old_tries(now_us - clock::duration_us(throttle::FORGOTTEN), throttle::MOST_KEYS)
            .await
    }

    /// Takes the next revision, so that edges learn of keys, and records those that are new.
    async fn announce(&self, rotated: &[String]) -> Result<(), StoreError> {
        let mut tx = self.store.write().await?;
        for resource in rotated {
            tx.record(Deed { action: ROTATE.to_owned(), resource: resource.clone(), ..Deed::default() });
        }
        tx.touch();
        tx.commit().await.map(drop)
    }

    /// Replaces keys that are too old. Returns the names of the new ones.
    async fn rotate(&self) -> Result<Vec<String>, KeyError> {
        let ring = self.signer.ring();
        let old = |made: Option<i64>, age: Duration| {
            made.is_some_and(|made| made < clock::now_us() - clock::duration_us(age))
        };
        let signing = old(ring.signing.last().map(|key| key.create_us), self.signing);
        let sealing = old(ring.sealing.iter().map(|key| key.create_us).max(), self.sealing);
        let mut rotated = Vec::new();
        if signing {
            self.signer.rotate_signing().await?;
            let ring = self.signer.ring();
            rotated.extend(ring.signing.last().map(|key| format!("signingKeys/{}", key.key_id)));
        }
        if sealing {
            self.signer.rotate_sealing().await?;
            let ring = self.signer.ring();
            rotated.extend(ring.sealing.iter().map(|key| key.id).max().map(|id| format!("sealingKeys/{id}")));
        }
        Ok(rotated)
    }
}
