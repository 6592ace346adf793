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
    /// The number of the last seal that was come to, or removed with the records before the first.
    number: i64,
    /// The last record under a seal that was come to.
    sealed: i64,
    /// The seals that were made until the walk began.
    made: i64,
    progress: VerifyAuditResponse,
}

/// Looks through the chain, and tells `out` how far it is after each part, and at last what was found.
pub async fn verify(
    store: &Store,
    seals: &AuditSeals,
    out: &mpsc::Sender<VerifyAuditResponse>,
) -> Result<VerifyAuditResponse, StoreError> {
    // Before the seals, so that none is missed that was made meanwhile.
    let head = store.audit_head().await?;
    let stored = store.audit_seals().await?;
    let mut last = VerifyAuditResponse {
        seal_time: stored.last().map(|seal| clock::timestamp(seal.time_us)),
        ..VerifyAuditResponse::default()
    };
    let Some(head) = head else {
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
        number: seals.number(&head.first_seal).unwrap_or_default(),
        sealed: head.first - 1,
        made: head.seals,
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
        (self.number, self.sealed) = (self.seals.number(&now.first_seal).unwrap_or_default(), now.first - 1);
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
            if let Some(wrong) = self.follow(&seal) {
                return found(expected, wrong);
            }
        }
        self.hash.clone_from(&record.hash);
        self.progress.verified_sequence = expected;
        None
    }

    /// Finds what is wrong with the number of a seal, which comes after all of before. Those of before seals were numbered have none, and
    /// come first.
    fn follow(&mut self, seal: &StoredSeal) -> Option<String> {
        let (next, from) = (self.number + 1, self.sealed + 1);
        self.sealed = seal.sequence;
        match self.seals.number(&seal.seal) {
            None if self.number == 0 => None,
            Some(number) if number == next => {
                self.number = number;
                None
            }
            Some(number) if number > next => {
                let (last, time) =
                    (number - 1, clock::timestamp(seal.time_us - seal.time_us.rem_euclid(1_000_000)));
                Some(format!(
                    "{} missing that control planes made before the one here: only seal {number}, of {time}, stands for the records \
                     {from} to {}",
                    seals(next, last),
                    seal.sequence
                ))
            }
            _ => Some("the seal here is not the one that was made next".to_owned()),
        }
    }

    /// Finds seals that were made and that are not there, after all that are.
    fn missing(&self) -> Option<String> {
        let later = self.left.range(self.head.sequence + 1..).count();
        let last = self.number + i64::try_from(later).unwrap_or(i64::MAX);
        (last < self.made).then(|| {
            let from = self.sealed + 1;
            format!(
                "{} missing that control planes made: nothing stands for the records from {from} on",
                seals(last + 1, self.made)
            )
        })
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
        if let Some(wrong) = self.missing() {
            return Ok(found(last, wrong));
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

fn found(sequence: i64, reason: impl Into<String>) -> Option<AuditBreak> {
    Some(AuditBreak { sequence, reason: reason.into() })
}

/// Seals by their numbers, with the verb of what they are.
fn seals(from: i64, to: i64) -> String {
    if from == to { format!("seal {from} is") } else { format!("seals {from} to {to} are") }
}
