//! Looks through the chain: computes every hash anew, and checks it against where the chain begins, where it ends, and its seals.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use trunkline::admin::v1::{AuditBreak, VerifyAuditResponse};

use crate::auth::audit_seal::{AuditSeals, SealProof, SealedPlace};
use crate::clock;
use crate::store::audit::{AuditHead, FIRST_HASH, StoredRecord, StoredSeal};
use crate::store::{Store, StoreError};

/// Records that are read at one time.
const PAGE: i64 = 1_000;

/// A walk through the chain.
struct Walk<'a> {
    store: &'a Store,
    seals: &'a AuditSeals,
    /// The seals that were not come to yet, by record.
    left: BTreeMap<i64, StoredSeal>,
    head: AuditHead,
    /// The hash of the last record that holds.
    hash: String,
    progress: VerifyAuditResponse,
}

/// Looks through the chain, and tells `out` how far it is after each part, and at last what was found.
pub async fn verify(
    store: &Store,
    seals: &AuditSeals,
    out: &mpsc::Sender<VerifyAuditResponse>,
) -> Result<VerifyAuditResponse, StoreError> {
    let stored = store.audit_seals().await?;
    let mut last = VerifyAuditResponse {
        seal_time: stored.last().map(|seal| clock::timestamp(seal.time_us)),
        ..VerifyAuditResponse::default()
    };
    let Some(head) = store.audit_head().await? else {
        last.first_break = found(0, "the row is missing that says where the chain begins and ends");
        return Ok(VerifyAuditResponse { done: true, ..last });
    };
    (last.first_sequence, last.last_sequence) = (head.first, head.sequence);
    last.verified_sequence = head.first - 1;
    let mut walk = Walk {
        store,
        seals,
        left: stored.into_iter().map(|seal| (seal.sequence, seal)).collect(),
        hash: head.first_hash.clone(),
        head,
        progress: last,
    };
    walk.progress.first_break = walk.go(out).await?;
    Ok(VerifyAuditResponse { done: true, ..walk.progress })
}

impl Walk<'_> {
    async fn go(
        &mut self,
        out: &mpsc::Sender<VerifyAuditResponse>,
    ) -> Result<Option<AuditBreak>, StoreError> {
        if let Some(wrong) = self.start() {
            return Ok(found(self.head.first, wrong));
        }
        while self.progress.verified_sequence < self.head.sequence {
            let from = self.progress.verified_sequence + 1;
            let page = self.store.audit_page(from, PAGE.min(self.head.sequence - from + 1)).await?;
            if page.first().is_none_or(|first| first.sequence != from) && self.is_shortened(from).await? {
                continue;
            }
            if page.is_empty() {
                return Ok(found(from, "it is missing, and all after it"));
            }
            for record in &page {
                if let Some(wrong) = self.step(record) {
                    return Ok(Some(wrong));
                }
            }
            // Whoever does not listen any more is told nothing.
            if out.send(self.progress.clone()).await.is_err() {
                return Ok(None);
            }
        }
        self.end().await
    }

    /// Finds what is wrong with where the chain begins.
    fn start(&self) -> Option<&'static str> {
        let AuditHead { first, first_hash, first_seal, .. } = &self.head;
        if *first == 1 {
            return (first_hash != FIRST_HASH).then_some("the chain does not begin as every chain does");
        }
        let proof = self.seals.check(first_seal, SealedPlace::Start, *first, first_hash);
        (proof != SealProof::Holds).then_some(
            "the records before it were not removed by a control plane: where the chain begins is not signed",
        )
    }

    /// Begins anew where the chain begins now, if records were removed meanwhile because they are past their time.
    async fn is_shortened(&mut self, from: i64) -> Result<bool, StoreError> {
        let now = self.store.audit_head().await?.filter(|now| now.first > from);
        let Some(now) = now else { return Ok(false) };
        (self.hash, self.progress.verified_sequence) = (now.first_hash.clone(), now.first - 1);
        self.progress.first_sequence = now.first;
        self.progress.last_sequence = now.sequence;
        self.left = self.left.split_off(&now.first);
        self.head = now;
        // What signs the new beginning is looked at as it was of the old one.
        Ok(self.start().is_none())
    }

    /// Checks the record that comes next.
    fn step(&mut self, record: &StoredRecord) -> Option<AuditBreak> {
        let expected = self.progress.verified_sequence + 1;
        if record.sequence != expected {
            return found(expected, "it is missing");
        }
        if let Some(wrong) = record.problem(&self.hash) {
            return found(expected, wrong);
        }
        if let Some(seal) = self.left.remove(&expected) {
            match self.seals.check(&seal.seal, SealedPlace::End, expected, &record.hash) {
                SealProof::Holds => self.progress.seals += 1,
                SealProof::Unknown => self.progress.unchecked_seals += 1,
                SealProof::Fails => {
                    return found(expected, "a control plane has sealed something else here");
                }
            }
        }
        self.hash.clone_from(&record.hash);
        self.progress.verified_sequence = expected;
        None
    }

    /// Checks where the chain ends.
    async fn end(&self) -> Result<Option<AuditBreak>, StoreError> {
        let last = self.head.sequence;
        // Read before the head: what is appended meanwhile is behind both.
        let in_table = self.store.audit_end().await?;
        let now = self.store.audit_head().await?;
        if now.is_none_or(|now| in_table.last > now.sequence) {
            return Ok(found(last, "the chain is said to end here, but there are records after it"));
        }
        if in_table.first != 0 && in_table.first < self.progress.first_sequence {
            return Ok(found(in_table.first, "it is before the first record that is said to be kept"));
        }
        if self.head.hash != self.hash {
            return Ok(found(last, "its hash is not the one with which the chain is said to end"));
        }
        let beyond = self.left.keys().find(|sequence| **sequence > last);
        let Some(sequence) = beyond else { return Ok(None) };
        let now = self.store.audit_head().await?;
        if now.is_some_and(|now| now.sequence >= *sequence) {
            return Ok(None);
        }
        Ok(found(last, "it is said to be the last one, but a control plane has sealed records after it"))
    }
}

fn found(sequence: i64, reason: &str) -> Option<AuditBreak> {
    Some(AuditBreak { sequence, reason: reason.to_owned() })
}
