//! Seals the chain every hour, and removes what is past its time.

use std::time::Duration;

use crate::auth::audit_seal::{AuditSeals, SealProof, SealedPlace};
use crate::auth::keys::KeyError;
use crate::clock;
use crate::store::audit::{AuditHead, Cut};
use crate::store::leases::Leases;
use crate::store::{Store, StoreError};

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(60);
/// The lease outlives a round that is late.
const LEASE: Duration = Duration::from_secs(180);
/// Age at which the last seal is followed by another.
const SEALED_FOR: Duration = Duration::from_secs(3_600);

/// How long records are kept.
#[derive(Debug, Clone, Copy)]
pub struct AuditRetention {
    /// The longest time.
    pub age: Duration,
    /// The largest number.
    pub records: i64,
}

/// Keeps the chain.
#[derive(Debug, Clone)]
pub struct AuditKeeper {
    /// Where it is.
    pub store: Store,
    /// What it is sealed with.
    pub seals: AuditSeals,
    /// Only one replica removes and seals.
    pub leases: Leases,
    /// How long records are kept.
    pub retention: AuditRetention,
}

#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl AuditKeeper {
    /// Keeps the chain, for ever.
    pub async fn run(self) {
        loop {
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "cannot keep the audit log; retrying");
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    /// Seals what there is, before this control plane ends.
    pub async fn close(&self) {
        if let Err(error) = self.seal(Duration::ZERO).await {
            tracing::warn!(%error, "cannot seal the audit log");
        }
    }

    async fn round(&self) -> Result<(), KeepError> {
        if self.leases.take("audit", LEASE).await?.is_none() {
            return Ok(());
        }
        let before_us = clock::now_us().saturating_sub(clock::duration_us(self.retention.age));
        let sign = |cut: &Cut| Ok::<_, KeepError>(self.seals.seal_start(cut)?);
        let removed = self.store.shorten_audit(before_us, self.retention.records, sign).await?;
        if removed > 0 {
            tracing::info!(removed, "removed audit records that are past their time");
        }
        self.reseal_start().await?;
        self.seal(SEALED_FOR).await
    }

    /// Signs again where the chain begins, while the key is there with which that was signed.
    async fn reseal_start(&self) -> Result<(), KeepError> {
        let Some(head) = self.store.audit_head().await? else { return Ok(()) };
        let AuditHead { first, first_hash, first_seal, .. } = &head;
        if first_seal.is_empty() || self.seals.is_newest(first_seal) {
            return Ok(());
        }
        if self.seals.check(first_seal, SealedPlace::Start, *first, first_hash) != SealProof::Holds {
            return Ok(());
        }
        let number = self.seals.number(first_seal).unwrap_or_default();
        let seal = self.seals.seal(SealedPlace::Start, *first, first_hash, number)?;
        Ok(self.store.reseal_audit_start(*first, &seal).await?)
    }

    /// Seals what there is, unless the last seal is over the same or younger than `age`.
    async fn seal(&self, age: Duration) -> Result<(), KeepError> {
        let Some(head) = self.store.audit_head().await?.filter(|head| head.sequence > 0) else {
            return Ok(());
        };
        let now_us = clock::now_us();
        if let Some(last) = self.store.last_audit_seal().await? {
            let is_young = now_us.saturating_sub(last.time_us) < clock::duration_us(age);
            let is_same = last.sequence >= head.sequence;
            if self.seals.is_newest(&last.seal) && (is_same || is_young) {
                return Ok(());
            }
        }
        let sign = |head: &AuditHead| Ok::<_, KeepError>(self.seals.seal_end(head)?);
        let AuditHead { sequence, hash, seals, .. } = self.store.seal_audit(now_us, sign).await?;
        // Where logs go elsewhere, this is a copy that whoever has the database cannot change.
        tracing::info!(sequence, hash, seal = seals, "sealed the audit log");
        Ok(())
    }
}
