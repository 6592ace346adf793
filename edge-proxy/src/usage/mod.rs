//! Counts of calls: recorded by each worker without locks, shipped in batches that are counted once.
//!
//! It must not know requests or the snapshot, only the names that its callers pass.

mod account;
mod backlog;
mod reporter;
mod shard;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

pub use account::Account;
pub use reporter::Reporter;
pub use shard::Shard;
pub use trunkline::telemetry::v1::UsageOutcome as Outcome;

/// One call that ended.
#[derive(Debug, Clone, Copy)]
pub struct CallRecord<'a> {
    /// `servers/{server}`.
    pub server: &'a str,
    /// `tokens/{token}`; empty for unknown callers.
    pub token: &'a str,
    /// The method; `other` for those not known.
    pub method: &'a str,
    /// `upstreams/{upstream}/tools/{tool}` and so on; empty where the call led to none.
    pub target: &'a str,
    /// The outcome.
    pub outcome: Outcome,
    /// The time from the last byte of the request's head to the last byte of the answer.
    pub duration: Duration,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
}

/// The names that calls agree in which are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    server: Box<str>,
    token: Box<str>,
    method: Box<str>,
    target: Box<str>,
    outcome: i32,
}

/// Sums over calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    calls: u64,
    duration_us: u64,
    request_bytes: u64,
    response_bytes: u64,
}

/// A bounded number of keys with their sums. Past the bound, calls are counted under a key whose names are all `other`,
/// so that no call is lost.
#[derive(Debug)]
pub(crate) struct Counts {
    sums: HashMap<Key, Sums>,
    max_keys: usize,
}

const OTHER: &str = "other";

impl Counts {
    pub(crate) fn new(max_keys: usize) -> Counts {
        Counts { sums: HashMap::new(), max_keys }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.sums.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Sums)> {
        self.sums.iter()
    }

    /// Adds a call. Returns false if it was counted under `other`.
    pub(crate) fn record(&mut self, call: &CallRecord<'_>) -> bool {
        let sums = Sums {
            calls: 1,
            duration_us: u64::try_from(call.duration.as_micros()).unwrap_or(u64::MAX),
            request_bytes: call.request_bytes,
            response_bytes: call.response_bytes,
        };
        self.add(call, sums)
    }

    /// Adds all of `other`. Returns how many calls were counted under `other`.
    pub(crate) fn merge(&mut self, other: &Counts) -> u64 {
        let folded =
            other.sums.iter().filter_map(|(key, sums)| (!self.add(key, *sums)).then_some(sums.calls));
        folded.sum()
    }

    /// Adds `sums` under `key`, which is copied only when it is new.
    pub(crate) fn add(&mut self, key: &dyn KeyRef, sums: Sums) -> bool {
        if let Some(present) = self.sums.get_mut(key) {
            present.add(sums);
            return true;
        }
        let fits = self.sums.len() < self.max_keys;
        let key = if fits { key.to_key() } else { Key::other(key.names().4) };
        self.sums.entry(key).or_default().add(sums);
        fits
    }
}

impl Key {
    pub(crate) fn other(outcome: i32) -> Key {
        let other = || OTHER.into();
        Key { server: other(), token: other(), method: other(), target: other(), outcome }
    }

    pub(crate) fn method(&self) -> &str {
        &self.method
    }

    pub(crate) fn outcome(&self) -> Outcome {
        Outcome::try_from(self.outcome).unwrap_or(Outcome::Unspecified)
    }
}

impl Sums {
    fn add(&mut self, more: Sums) {
        self.calls = self.calls.saturating_add(more.calls);
        self.duration_us = self.duration_us.saturating_add(more.duration_us);
        self.request_bytes = self.request_bytes.saturating_add(more.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(more.response_bytes);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    pub(crate) fn duration_us(&self) -> u64 {
        self.duration_us
    }
}

/// The names that a key consists of, borrowed: a call with a known key is counted without an allocation.
pub(crate) trait KeyRef {
    fn names(&self) -> (&str, &str, &str, &str, i32);

    fn to_key(&self) -> Key {
        let (server, token, method, target, outcome) = self.names();
        Key {
            server: server.into(),
            token: token.into(),
            method: method.into(),
            target: target.into(),
            outcome,
        }
    }
}

impl KeyRef for Key {
    fn names(&self) -> (&str, &str, &str, &str, i32) {
        (&self.server, &self.token, &self.method, &self.target, self.outcome)
    }
}

impl KeyRef for CallRecord<'_> {
    fn names(&self) -> (&str, &str, &str, &str, i32) {
        (self.server, self.token, self.method, self.target, self.outcome as i32)
    }
}

impl<'a> Borrow<dyn KeyRef + 'a> for Key {
    fn borrow(&self) -> &(dyn KeyRef + 'a) {
        self
    }
}

// Must agree with the derived hash of `Key`: hashing a tuple hashes its members in order, as a struct does.
impl Hash for dyn KeyRef + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names().hash(state);
    }
}

impl PartialEq for dyn KeyRef + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for dyn KeyRef + '_ {}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(target: &str) -> CallRecord<'_> {
        CallRecord {
            server: "servers/dev",
            token: "tokens/laptop",
            method: "tools/call",
            target,
            outcome: Outcome::Ok,
            duration: Duration::from_micros(5),
            request_bytes: 2,
            response_bytes: 3,
        }
    }

    #[test]
    fn calls_of_one_key_are_added_up() {
        let mut counts = Counts::new(10);
        for target in ["a", "b", "a"] {
            assert!(counts.record(&call(target)));
        }
        assert_eq!(counts.len(), 2);
        let a = counts.sums[&call("a").to_key()];
        assert_eq!(a, Sums { calls: 2, duration_us: 10, request_bytes: 4, response_bytes: 6 });
    }

    #[test]
    fn past_the_bound_calls_are_counted_under_other() {
        let mut counts = Counts::new(2);
        let kept: Vec<bool> = ["a", "b", "c", "d", "a"].iter().map(|t| counts.record(&call(t))).collect();
        assert_eq!(kept, [true, true, false, false, true]);
        assert_eq!(counts.sums[&Key::other(Outcome::Ok as i32)].calls, 2);

        let mut whole = Counts::new(2);
        whole.merge(&counts);
        assert_eq!(whole.iter().map(|(_, sums)| sums.calls).sum::<u64>(), 5, "no call is lost");
    }
}
