//! Counts that are not yet acknowledged: pure, bounded, each batch numbered once.
//!
//! A batch that was sent may have been stored, so it never changes again. Everything later is added up in
//! `pending`, whose number of keys is bounded: an hour without a control plane costs keys, not calls. A batch stays within
//! what a control plane reads.

use std::collections::VecDeque;

use prost::Message;
use prost_types::Timestamp;
use trunkline::telemetry::v1::{ReportUsageRequest, UsageRecord};

use super::{Counts, Key, Sums};

/// Records in one batch; a control plane refuses more.
const BATCH_RECORDS: usize = 2_000;
/// The size of the records of a batch, encoded; a control plane refuses messages of twice as much.
const BATCH_BYTES: usize = 512 << 10;
/// Keys that are added up while nothing can be sent.
const MAX_KEYS: usize = 100_000;

/// Counts that are not yet acknowledged.
#[derive(Debug)]
pub(super) struct Backlog {
    run_id: String,
    next_sequence: i64,
    /// Numbered and perhaps sent, oldest first; those of earlier runs before those of this one.
    sealed: VecDeque<ReportUsageRequest>,
    pending: Counts,
    pending_since: u64,
}

impl Backlog {
    pub(super) fn new(run_id: String, now: u64) -> Backlog {
        Backlog {
            run_id,
            next_sequence: 1,
            sealed: VecDeque::new(),
            pending: Counts::new(MAX_KEYS),
            pending_since: now,
        }
    }

    /// Adds counts. Returns how many of their calls were counted under a folded key.
    pub(super) fn add(&mut self, counts: &Counts) -> u64 {
        self.pending.merge(counts)
    }

    /// Returns the batch to send, made of what is pending if none is waiting.
    pub(super) fn next(&mut self, now: u64) -> Option<&ReportUsageRequest> {
        if self.sealed.is_empty() && !self.pending.is_empty() {
            self.seal(now);
        }
        self.sealed.front()
    }

    /// Drops all batches of `run_id` up to `sequence`, which are stored.
    pub(super) fn acknowledge(&mut self, run_id: &str, sequence: i64) {
        self.sealed.retain(|batch| batch.run_id != run_id || batch.sequence > sequence);
    }

    /// Counts the keys and records that wait.
    pub(super) fn len(&self) -> usize {
        self.pending.len() + self.sealed.iter().map(|batch| batch.records.len()).sum::<usize>()
    }

    /// Serializes what waits as numbered batches, for the next run to deliver: the newest, as many as have at most `max_bytes`
    /// together. Returns the number of records in the others, which are lost, as well.
    pub(super) fn serialize(&mut self, now: u64, max_bytes: usize) -> (Vec<u8>, usize) {
        if !self.pending.is_empty() {
            self.seal(now);
        }
        let lost = self.drop_oldest(max_bytes);
        let mut bytes = Vec::new();
        for batch in &self.sealed {
            bytes.extend_from_slice(&batch.encode_length_delimited_to_vec());
        }
        (bytes, lost)
    }

    /// Drops the oldest batches until the others have at most so many bytes. Returns the records that were in them.
    fn drop_oldest(&mut self, max_bytes: usize) -> usize {
        let mut kept = 0;
        let fits = |batch: &&ReportUsageRequest| {
            kept += batch.encoded_len();
            kept <= max_bytes
        };
        let excess = self.sealed.len() - self.sealed.iter().rev().take_while(fits).count();
        self.sealed.drain(..excess).map(|batch| batch.records.len()).sum()
    }

    /// Restores the batches of an earlier run. Returns false if they cannot be read to their end.
    pub(super) fn restore(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match ReportUsageRequest::decode_length_delimited(&mut bytes) {
                Ok(batch) => self.sealed.push_back(batch),
                Err(_) => return false,
            }
        }
        true
    }

    /// Numbers all that is pending, in as many batches as it needs.
    fn seal(&mut self, now: u64) {
        let pending = std::mem::replace(&mut self.pending, Counts::new(MAX_KEYS));
        for records in batches(pending.iter().map(|(key, sums)| record(key, sums))) {
            self.sealed.push_back(ReportUsageRequest {
                run_id: self.run_id.clone(),
                sequence: self.next_sequence,
                records,
                start_time: timestamp(self.pending_since),
                end_time: timestamp(now),
            });
            self.next_sequence += 1;
        }
        self.pending_since = now;
    }
}

/// Splits records into batches of a bounded number and size.
fn batches(records: impl Iterator<Item = UsageRecord>) -> Vec<Vec<UsageRecord>> {
    let (mut batches, mut bytes) = (vec![Vec::new()], 0);
    for record in records {
        let size = encoded_len(&record);
        let is_full = |batch: &Vec<_>| batch.len() == BATCH_RECORDS || bytes + size > BATCH_BYTES;
        if batches.last().is_none_or(|batch| !batch.is_empty() && is_full(batch)) {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(batch) = batches.last_mut() {
            batch.push(record);
        }
    }
    batches
}

/// The size of a record in its batch, with the tag and length in front of it.
fn encoded_len(record: &UsageRecord) -> usize {
    1 + prost::length_delimiter_len(record.encoded_len()) + record.encoded_len()
}

fn record(key: &Key, sums: &Sums) -> UsageRecord {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    UsageRecord {
        server: key.server.to_string(),
        token: key.token.to_string(),
        method: key.method.to_string(),
        target: key.target.to_string(),
        outcome: key.outcome,
        calls: count(sums.calls),
        duration_us: count(sums.duration_us),
        request_bytes: count(sums.request_bytes),
        response_bytes: count(sums.response_bytes),
        last_address: sums.last_address.map_or_else(String::new, |address| address.to_string()),
    }
}

fn timestamp(unix_s: u64) -> Option<Timestamp> {
    Some(Timestamp { seconds: i64::try_from(unix_s).unwrap_or(i64::MAX), nanos: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{CallRecord, Outcome};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    fn counts(targets: &[u16]) -> Counts {
        let mut counts = Counts::new(MAX_KEYS);
        for target in targets {
            counts.record(&CallRecord {
                server: "servers/dev",
                token: "tokens/t",
                method: "tools/call",
                target: &format!("t{target}"),
                outcome: Outcome::Ok,
                duration: Duration::from_micros(3),
                request_bytes: 1,
                response_bytes: 2,
                address: None,
            });
        }
        counts
    }

    #[test]
    fn what_was_sent_stays_as_it_is_and_the_rest_is_added_up() {
        let mut backlog = Backlog::new("run".into(), 10);
        assert_eq!(backlog.next(11), None);
        backlog.add(&counts(&[1]));
        let first = backlog.next(12).cloned().unwrap();
        assert_eq!((first.sequence, first.records.len(), first.records[0].calls), (1, 1, 1));
        assert_eq!((first.start_time, first.end_time), (timestamp(10), timestamp(12)));
        for _ in 0..1_000 {
            backlog.add(&counts(&[1, 2]));
        }
        assert_eq!(backlog.next(20), Some(&first));
        assert_eq!(backlog.len(), 3, "an outage costs keys, not calls");
        backlog.acknowledge("another", 9);
        assert_eq!(backlog.next(20), Some(&first));
        backlog.acknowledge("run", 1);
        let second = backlog.next(21).cloned().unwrap();
        assert_eq!((second.sequence, second.start_time), (2, timestamp(12)));
        assert_eq!(second.records.iter().map(|r| r.calls).sum::<i64>(), 2_000);
    }

    #[test]
    fn large_backlogs_are_sent_in_several_batches() {
        let mut backlog = Backlog::new("run".into(), 0);
        backlog.add(&counts(&(0..4_500).collect::<Vec<u16>>()));
        let mut sizes = Vec::new();
        while let Some(batch) = backlog.next(1).cloned() {
            sizes.push((batch.sequence, batch.records.len()));
            backlog.acknowledge("run", batch.sequence);
        }
        assert_eq!(sizes, [(1, 2_000), (2, 2_000), (3, 500)]);
        assert_eq!(backlog.len(), 0);
    }

    #[test]
    fn batches_of_long_names_stay_within_what_a_control_plane_reads() {
        let mut counts = Counts::new(MAX_KEYS);
        for number in 0..3_000 {
            let target = format!("upstreams/{}/{number}", "x".repeat(2_030));
            counts.record(&CallRecord {
                server: "servers/dev",
                token: "tokens/t",
                method: "tools/call",
                target: &target,
                outcome: Outcome::Ok,
                duration: Duration::from_micros(3),
                request_bytes: 1,
                response_bytes: 2,
                address: None,
            });
        }
        let mut backlog = Backlog::new("run".into(), 0);
        backlog.add(&counts);
        let (mut records, mut batches) = (0, 0);
        while let Some(batch) = backlog.next(1).cloned() {
            assert!(batch.encoded_len() <= (1 << 20), "{}", batch.encoded_len());
            (records, batches) = (records + batch.records.len(), batches + 1);
            backlog.acknowledge("run", batch.sequence);
        }
        assert!(records == 3_000 && batches > 2, "{records} records in {batches} batches");
    }

    #[test]
    fn an_earlier_runs_batches_are_delivered_under_its_name() {
        let mut earlier = Backlog::new("one".into(), 0);
        earlier.add(&counts(&[1]));
        let (serialized, lost) = earlier.serialize(5, usize::MAX);
        assert_eq!(lost, 0);
        let mut backlog = Backlog::new("two".into(), 6);
        assert!(backlog.restore(&serialized));
        backlog.add(&counts(&[2]));
        let first = backlog.next(7).cloned().unwrap();
        assert_eq!((&*first.run_id, first.sequence), ("one", 1));
        backlog.acknowledge("one", 1);
        assert_eq!(backlog.next(7).map(|b| (&*b.run_id, b.sequence)), Some(("two", 1)));
        assert!(!Backlog::new("x".into(), 0).restore(&serialized[..serialized.len() - 1]));
    }

    #[test]
    fn runs_that_find_no_control_plane_keep_the_newest_and_count_what_is_lost() {
        let (mut kept, mut lost) = (Vec::new(), 0);
        for run in 0..100 {
            let mut backlog = Backlog::new(format!("r{run}"), run);
            assert!(backlog.restore(&kept));
            backlog.add(&counts(&[1, 2, 3]));
            let (serialized, of_this_run) = backlog.serialize(run + 1, 10_000);
            (kept, lost) = (serialized, lost + of_this_run);
        }
        assert!((5_000..10_500).contains(&kept.len()), "{}", kept.len());
        let mut backlog = Backlog::new("last".into(), 0);
        assert!(backlog.restore(&kept));
        assert!(lost > 0);
        assert_eq!(lost + backlog.len(), 3 * 100);
        assert_eq!(backlog.sealed.back().map(|batch| &*batch.run_id), Some("r99"), "the newest is there");
    }

    proptest! {
        /// Whatever is lost on the way, a receiver that remembers sequences counts every call exactly once.
        #[test]
        fn every_call_is_counted_once(steps in proptest::collection::vec((0u8..5, 0u16..4), 1..60)) {
            let mut backlog = Backlog::new("r0".into(), 0);
            let (mut stored, mut sums) = (BTreeSet::new(), BTreeMap::<String, i64>::new());
            let (mut recorded, mut runs) = (0i64, 0);
            for (step, target) in steps {
                match step {
                    0 | 1 => { backlog.add(&counts(&[target])); recorded += 1; }
                    // Delivered; the acknowledgement is lost.
                    2 | 3 => {
                        let Some(batch) = backlog.next(1).cloned() else { continue };
                        if stored.insert((batch.run_id.clone(), batch.sequence)) {
                            for record in &batch.records { *sums.entry(record.target.clone()).or_default() += record.calls; }
                        }
                        if step == 3 { backlog.acknowledge(&batch.run_id, batch.sequence); }
                    }
                    _ => {
                        runs += 1;
                        let (serialized, lost) = backlog.serialize(2, usize::MAX);
                        prop_assert_eq!(lost, 0);
                        backlog = Backlog::new(format!("r{runs}"), 2);
                        prop_assert!(backlog.restore(&serialized));
                    }
                }
            }
            while let Some(batch) = backlog.next(3).cloned() {
                if stored.insert((batch.run_id.clone(), batch.sequence)) {
                    for record in &batch.records { *sums.entry(record.target.clone()).or_default() += record.calls; }
                }
                backlog.acknowledge(&batch.run_id, batch.sequence);
            }
            prop_assert_eq!(sums.values().sum::<i64>(), recorded);
        }
    }
}
