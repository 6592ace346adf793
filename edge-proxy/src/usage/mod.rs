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
use std::net::IpAddr;
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
    /// The address of the client, if it is known.
    pub address: Option<IpAddr>,
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
    /// The address of the client of the last call that has one.
    last_address: Option<IpAddr>,
}

/// A bounded number of keys with their sums.
///
/// Past `max_keys` no call is lost: a new key is folded. Its target becomes `other`, so that what each token does at
/// each server stays exact; past half as many keys again, its token does, too, so that each server's sums stay exact;
/// past twice `max_keys`, all of its names but the outcome.
#[derive(Debug)]
pub(crate) struct Counts {
    sums: HashMap<Key, Sums>,
    max_keys: usize,
    /// Calls that were counted under a folded key.
    folded: u64,
}

/// The name in the place of those that were folded.
const OTHER: &str = "other";

impl Counts {
    pub(crate) fn new(max_keys: usize) -> Counts {
        Counts { sums: HashMap::new(), max_keys, folded: 0 }
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

    /// Adds a call.
    pub(crate) fn record(&mut self, call: &CallRecord<'_>) {
        let sums = Sums {
            calls: 1,
            duration_us: u64::try_from(call.duration.as_micros()).unwrap_or(u64::MAX),
            request_bytes: call.request_bytes,
            response_bytes: call.response_bytes,
            last_address: call.address,
        };
        self.add(call, sums);
    }

    /// Adds all of `other`. Returns how many of its calls were counted under a folded key, here or there.
    pub(crate) fn merge(&mut self, other: &Counts) -> u64 {
        let before = self.folded;
        for (key, sums) in &other.sums {
            self.add(key, *sums);
        }
        self.folded += other.folded;
        self.folded - before
    }

    /// Adds `sums` under `key`, which is copied only when it is new.
    pub(crate) fn add(&mut self, key: &dyn KeyRef, sums: Sums) {
        if !self.add_below(self.max_keys, key, sums) {
            self.fold(key, sums);
        }
    }

    /// Adds `sums` under `key`, unless it is new and there are `bound` keys already.
    fn add_below(&mut self, bound: usize, key: &dyn KeyRef, sums: Sums) -> bool {
        if let Some(present) = self.sums.get_mut(key) {
            present.add(sums);
            return true;
        }
        let fits = self.sums.len() < bound;
        if fits {
            self.sums.insert(key.to_key(), sums);
        }
        fits
    }

    #[cold]
    fn fold(&mut self, key: &dyn KeyRef, sums: Sums) {
        let (server, token, method, target, outcome) = key.names();
        // What was folded before it came here is counted already.
        if target != OTHER {
            self.folded += sums.calls;
        }
        let without_target = (server, token, method, OTHER, outcome);
        let without_token = (server, OTHER, method, OTHER, outcome);
        let without_any = (OTHER, OTHER, OTHER, OTHER, outcome);
        let _ = self.add_below(self.max_keys + self.max_keys / 2, &without_target, sums)
            || self.add_below(self.max_keys * 2, &without_token, sums)
            || self.add_below(usize::MAX, &without_any, sums);
    }
}

impl Key {
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
        self.last_address = more.last_address.or(self.last_address);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    pub(crate) fn duration_us(&self) -> u64 {
        self.duration_us
    }
}

/// Server, token, method, target and outcome.
pub(crate) type Names<'a> = (&'a str, &'a str, &'a str, &'a str, i32);

/// The names that a key consists of, borrowed: a call with a known key is counted without an allocation.
pub(crate) trait KeyRef {
    fn names(&self) -> Names<'_>;

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
    fn names(&self) -> Names<'_> {
        (&self.server, &self.token, &self.method, &self.target, self.outcome)
    }
}

impl KeyRef for Names<'_> {
    fn names(&self) -> Names<'_> {
        *self
    }
}

impl KeyRef for CallRecord<'_> {
    fn names(&self) -> Names<'_> {
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
    use proptest::prelude::*;

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
            address: None,
        }
    }

    #[test]
    fn calls_of_one_key_are_added_up() {
        let mut counts = Counts::new(10);
        for target in ["a", "b", "a"] {
            counts.record(&call(target));
        }
        assert_eq!(counts.len(), 2);
        let a = counts.sums[&call("a").to_key()];
        let expected =
            Sums { calls: 2, duration_us: 10, request_bytes: 4, response_bytes: 6, last_address: None };
        assert_eq!(a, expected);
    }

    #[test]
    fn the_last_address_that_is_known_is_kept() {
        let (first, second) = (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([192, 0, 2, 2])));
        let (mut counts, mut later) = (Counts::new(10), Counts::new(10));
        for address in [first, second, None] {
            counts.record(&CallRecord { address, ..call("a") });
        }
        assert_eq!(counts.sums[&call("a").to_key()].last_address, second);
        later.record(&CallRecord { address: first, ..call("a") });
        counts.merge(&later);
        assert_eq!(counts.sums[&call("a").to_key()].last_address, first);
    }

    fn calls(counts: &Counts, matches: impl Fn(&Key) -> bool) -> u64 {
        counts.iter().filter(|(key, _)| matches(key)).map(|(_, sums)| sums.calls).sum()
    }

    #[test]
    fn past_the_bound_targets_are_folded_first() {
        let mut counts = Counts::new(2);
        ["a", "b", "c", "d", "a"].iter().for_each(|target| counts.record(&call(target)));
        assert_eq!(calls(&counts, |key| *key.target == *"a"), 2);
        let folded = |key: &Key| &*key.token == "tokens/laptop" && *key.target == *OTHER;
        assert_eq!((calls(&counts, folded), counts.folded), (2, 2));

        let mut whole = Counts::new(10);
        assert_eq!(whole.merge(&counts), 2, "folded once, counted once");
        assert_eq!(calls(&whole, |_| true), 5, "no call is lost");
    }

    #[test]
    fn many_people_leave_each_servers_sums_exact() {
        let mut counts = Counts::new(1_000);
        for person in 0..5_000 {
            let token = format!("tokens/{person}");
            counts.record(&CallRecord { token: &token, ..call("a") });
            counts.record(&CallRecord { token: &token, server: "servers/ops", ..call("b") });
        }
        assert_eq!(calls(&counts, |key| &*key.server == "servers/dev"), 5_000);
        assert_eq!(calls(&counts, |key| &*key.server == "servers/ops"), 5_000);
        assert_eq!(counts.folded, 9_000);
        assert!(counts.len() <= 2_000);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_keys_are_bounded(
            max_keys in 1usize..8,
            recorded in proptest::collection::vec((0u8..6, 0u8..6, 0u8..6), 0..200),
        ) {
            let (mut counts, mut whole) = (Counts::new(max_keys), Counts::new(max_keys));
            for (server, token, target) in &recorded {
                let names = [("servers", server), ("tokens", token), ("targets", target)];
                let [server, token, target] = names.map(|(kind, number)| format!("{kind}/{number}"));
                counts.record(&CallRecord { server: &server, token: &token, ..call(&target) });
            }
            whole.merge(&counts);
            for counts in [&counts, &whole] {
                prop_assert_eq!(calls(counts, |_| true), recorded.len() as u64);
                prop_assert_eq!(calls(counts, |key| *key.target == *OTHER), counts.folded);
                prop_assert!(counts.len() <= max_keys * 2 + 1);
            }
        }
    }
}
