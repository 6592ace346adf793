//! Rates and quotas of tokens: what is left of each at this edge, taken by calls before they go to an upstream.
//!
//! Edges take shares of limits from the control plane, and count by themselves: no call waits for anybody. Without a control plane an
//! edge goes on with what it has, and past it refuses (docs/OPERATIONS.md says how far off all edges together can be). It must not know
//! what is called, nor how a refusal is told.

mod bucket;
mod leases;
mod quota;
mod rate;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use access::limit::{Limit, LimitKind, Per};
use inbound::Holder;
use tokio::sync::mpsc;

use self::bucket::{Bucket, Clock};
pub use self::leases::LeaseKeeper;
use crate::collections::{SharedMap, TwoGenerationCache};
use crate::error::Failure;
use crate::observe::{LimitRefusal, Metrics};
use crate::os::clock;
use crate::snapshot::TokenLimit;

/// Buckets of an edge. One token has those that are left for others, so half of them when alone.
const MAX_BUCKETS: usize = 100_000;
/// Buckets that a worker finds without the table.
const CACHED: usize = 10_000;
/// Buckets that wait to be told of at once; the others are with the next round.
const MAX_WAITING: usize = 4_096;

/// What is left is not enough for one more call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refused {
    /// When there may be.
    retry_after: Duration,
}

/// What a call is counted for.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    /// The uid of the token.
    pub token: &'a str,
    /// The id of the server.
    pub server: &'a str,
    /// The exposed name, URI or URI template of the entry.
    pub target: &'a str,
}

/// The buckets of an edge, which all workers share.
#[derive(Debug)]
pub struct LimitTable {
    buckets: Mutex<SharedMap<Box<str>, Arc<Bucket>>>,
    started: Instant,
    /// Whether a control plane can be asked.
    can_ask: AtomicBool,
    waiting: mpsc::Sender<Arc<Bucket>>,
    asked: Mutex<Option<mpsc::Receiver<Arc<Bucket>>>>,
    metrics: Arc<Metrics>,
}

impl LimitTable {
    /// Creates an empty table.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let (waiting, asked) = mpsc::channel(MAX_WAITING);
        Self {
            buckets: Mutex::new(SharedMap::new(MAX_BUCKETS)),
            started: Instant::now(),
            can_ask: AtomicBool::new(false),
            waiting,
            asked: Mutex::new(Some(asked)),
            metrics,
        }
    }

    /// Notes whether a control plane can be asked for shares. While none can, calls pass on the shares that there are, and none on credit.
    pub fn set_reachable(&self, is_reachable: bool) {
        self.can_ask.store(is_reachable, Ordering::Relaxed);
        self.metrics.limit_leases_connected.set(is_reachable.into());
    }

    fn clock(&self) -> Clock {
        Clock {
            now: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
            now_s: clock::now(),
            can_ask: self.can_ask.load(Ordering::Relaxed),
        }
    }

    /// Finds the bucket of a limit, or adds it. One of a limit that has changed since is replaced.
    fn bucket(&self, key: &str, token: &str, limit: Limit, clock: Clock) -> Result<Arc<Bucket>, Failure> {
        let (mut buckets, name) = (self.buckets(), Box::from(key));
        if let Some(other) = buckets.get(&name).filter(|bucket| bucket.limit != limit) {
            other.forget();
            buckets.remove(&name);
        }
        let new = || Arc::new(Bucket::new(key, limit, clock.now));
        let is_of_use = |bucket: &Arc<Bucket>| bucket.is_of_use(clock) || bucket.forget();
        let found = buckets.get_or_insert_with(name, Holder::of(token), clock.now_s, is_of_use, new);
        let found = found.map(|bucket| Arc::clone(bucket));
        self.metrics.limit_buckets.set(i64::try_from(buckets.len()).unwrap_or(i64::MAX));
        found.map_err(|_| self.refuse(LimitRefusal::Buckets, "", Duration::from_secs(1)))
    }

    /// Counts a refusal, and returns the failure of the call.
    fn refuse(&self, what: LimitRefusal, limit: &str, retry_after: Duration) -> Failure {
        self.metrics.limits_refused(what).inc();
        Failure::Limit { what, limit: limit.into(), retry_after }
    }

    /// Sees to it that the control plane is told of a bucket soon, where that is due.
    fn ask(&self, bucket: &Arc<Bucket>, clock: Clock) {
        if bucket.must_ask(clock) {
            let _ = self.waiting.try_send(Arc::clone(bucket));
        }
    }

    fn take_asked(&self) -> Option<mpsc::Receiver<Arc<Bucket>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn buckets(&self) -> MutexGuard<'_, SharedMap<Box<str>, Arc<Bucket>>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The buckets that a worker has used lately, which it finds without a lock.
pub struct LimitCache {
    table: Arc<LimitTable>,
    cached: RefCell<TwoGenerationCache<Box<str>, Arc<Bucket>>>,
    key: RefCell<String>,
}

impl LimitCache {
    /// Creates an empty cache of a table.
    pub fn new(table: Arc<LimitTable>) -> Self {
        Self { table, cached: RefCell::new(TwoGenerationCache::new(CACHED)), key: RefCell::default() }
    }

    /// Takes a call from each of these limits, or from none.
    ///
    /// # Errors
    /// If one of them is used up, or cannot be read.
    pub fn charge(&self, counted: Counted<'_>, limits: &[TokenLimit]) -> Result<Charge, Failure> {
        let mut charge = Charge { taken: Vec::with_capacity(limits.len()), table: Arc::clone(&self.table) };
        for limit in limits {
            if let Err(failure) = self.take(counted, limit, &mut charge) {
                charge.give_back();
                return Err(failure);
            }
        }
        Ok(charge)
    }

    fn take(&self, counted: Counted<'_>, limit: &TokenLimit, charge: &mut Charge) -> Result<(), Failure> {
        let Some(read) = limit.limit else {
            return Err(self.table.refuse(LimitRefusal::Unusable, &limit.id, Duration::ZERO));
        };
        let clock = self.table.clock();
        let bucket = self.bucket(counted, &limit.id, read, clock)?;
        let taken = bucket.take(clock);
        self.table.ask(&bucket, clock);
        match taken {
            Ok(()) => charge.taken.push(bucket),
            Err(Refused { retry_after }) => {
                let what = match read.kind {
                    LimitKind::Rate => LimitRefusal::Rate,
                    LimitKind::Quota => LimitRefusal::Quota,
                };
                return Err(self.table.refuse(what, &read.to_string(), retry_after));
            }
        }
        Ok(())
    }

    fn bucket(
        &self,
        counted: Counted<'_>,
        id: &str,
        limit: Limit,
        clock: Clock,
    ) -> Result<Arc<Bucket>, Failure> {
        let mut key = self.key.borrow_mut();
        write_key(&mut key, counted, id, limit.per);
        let cached = self.cached.borrow_mut().with(key.as_str(), |bucket| Arc::clone(bucket));
        if let Some(bucket) = cached.filter(|bucket| bucket.limit == limit && !bucket.is_forgotten()) {
            return Ok(bucket);
        }
        let bucket = self.table.bucket(&key, counted.token, limit, clock)?;
        self.cached.borrow_mut().insert(key.as_str().into(), Arc::clone(&bucket));
        Ok(bucket)
    }
}

/// Writes the name of a bucket, as control planes know it.
fn write_key(key: &mut String, counted: Counted<'_>, id: &str, per: Per) {
    let (server, target) = match per {
        Per::All => ("-", "-"),
        Per::Server => (counted.server, "-"),
        Per::Tool => (counted.server, counted.target),
    };
    key.clear();
    // Writing into a string does not fail.
    let _ = write!(key, "{}/{id}/{server}/{target}", counted.token);
}

/// What a call has taken from limits. It is spent, unless it is given back because nothing was sent.
#[derive(Debug)]
#[must_use]
pub struct Charge {
    taken: Vec<Arc<Bucket>>,
    table: Arc<LimitTable>,
}

impl Charge {
    /// Gives back what was taken.
    pub fn give_back(self) {
        self.taken.iter().for_each(|bucket| bucket.give_back());
    }

    /// What is left of each limit, and what the limits are, as the headers `RateLimit` and `RateLimit-Policy` have it
    /// (draft-ietf-httpapi-ratelimit-headers-10).
    pub fn left(&self) -> LimitsLeft {
        let clock = self.table.clock();
        let (mut left, mut policy) = (String::new(), String::new());
        for bucket in &self.taken {
            let id = id_of(&bucket.key);
            // Writing into a string does not fail.
            if let Some((calls, reset)) = bucket.left(clock) {
                let (comma, seconds) = (comma(&left), reset.as_millis().div_ceil(1_000));
                let _ = write!(left, r#"{comma}"{id}";r={calls};t={seconds}"#);
            }
            let (comma, quota, window) = (comma(&policy), bucket.limit.calls, bucket.window(clock.now_s));
            let _ = write!(policy, r#"{comma}"{id}";q={quota};w={window}"#);
        }
        LimitsLeft { left, policy }
    }
}

/// What stands before one more item of a list.
fn comma(list: &str) -> &'static str {
    if list.is_empty() { "" } else { ", " }
}

/// The id of the limit of a bucket.
fn id_of(key: &str) -> &str {
    key.split('/').nth(1).unwrap_or_default()
}

/// What is left of the limits that a call was counted in, as headers say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsLeft {
    /// `RateLimit`.
    pub left: String,
    /// `RateLimit-Policy`.
    pub policy: String,
}

#[cfg(test)]
mod tests;
