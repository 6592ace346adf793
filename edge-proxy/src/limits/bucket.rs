//! One limit of one token, or the part of it that is counted by itself: what is left of it at this edge, and what it needs.
//!
//! It must not know which calls are counted in it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use access::limit::{Limit, LimitKind, Period};
use trunkline::policy::v1::{LimitDemand, LimitLease};

use super::Refused;
use super::quota::{Quota, QuotaLease, end_of};
use super::rate::{Rate, RateShare};

const SECOND: u64 = 1_000_000_000;
/// A bucket that no call was for lets its share go.
const IDLE: u64 = 10 * SECOND;
/// An edge asks for what is likely to come within this time.
const AHEAD: u64 = 2;
/// Between two requests that calls cause; the others wait for the next round. Who is over a limit must not keep a control plane busy.
const ASK_EVERY: u64 = SECOND / 10;
/// The shortest time over which calls are counted to tell how many will come.
const WINDOW: u64 = SECOND / 4;
/// The calls of a quota that an edge asks for at least: clients make several at once.
const AT_LEAST: u64 = 16;
/// The calls at most that pass on credit.
const MOST_ON_CREDIT: u64 = 16;

/// The time, as buckets need it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Nanoseconds of a clock that only runs forward.
    pub(super) now: u64,
    /// Seconds since the Unix epoch.
    pub(super) now_s: u64,
    /// Whether a control plane can be asked.
    pub(super) can_ask: bool,
}

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    /// `{token uid}/{limit id}/{server id}/{exposed target}`, as control planes know it.
    pub(super) key: Box<str>,
    pub(super) limit: Limit,
    left: Left,
    /// Calls that passed since the control plane was last told.
    spent: AtomicU64,
    /// Calls that were tried since so long, and a second in the time before.
    tried: AtomicU64,
    since: AtomicU64,
    per_second: AtomicU64,
    tried_at: AtomicU64,
    /// When the control plane may be told at once again.
    ask_from: AtomicU64,
    /// True while it waits to be told of.
    is_waiting: AtomicBool,
    /// True once it is no longer in the table, because of which others may take from another one.
    is_forgotten: AtomicBool,
}

#[derive(Debug)]
enum Left {
    Rate(Rate),
    Quota(Quota),
}

impl Bucket {
    /// Creates the bucket of a limit, of which nothing was leased yet.
    pub(super) fn new(key: &str, limit: Limit, now: u64) -> Self {
        let left = match limit.kind {
            LimitKind::Rate => Left::Rate(Rate::default()),
            LimitKind::Quota => Left::Quota(Quota::default()),
        };
        Self {
            key: key.into(),
            limit,
            left,
            spent: AtomicU64::new(0),
            tried: AtomicU64::new(0),
            since: AtomicU64::new(now),
            per_second: AtomicU64::new(0),
            tried_at: AtomicU64::new(now),
            ask_from: AtomicU64::new(0),
            is_waiting: AtomicBool::new(false),
            is_forgotten: AtomicBool::new(false),
        }
    }

    /// Notes that it leaves the table. Returns false: it is of no use.
    pub(super) fn forget(&self) -> bool {
        self.is_forgotten.store(true, Ordering::Relaxed);
        false
    }

    /// Whether it has left the table.
    pub(super) fn is_forgotten(&self) -> bool {
        self.is_forgotten.load(Ordering::Relaxed)
    }

    /// Takes one call.
    pub(super) fn take(&self, clock: Clock) -> Result<(), Refused> {
        self.tried.fetch_add(1, Ordering::Relaxed);
        self.tried_at.store(clock.now, Ordering::Relaxed);
        let credit = credit(&self.limit);
        match &self.left {
            Left::Rate(rate) => rate.take(clock.now, clock.can_ask, credit),
            Left::Quota(quota) => quota.take(self.limit.period, clock.now_s, clock.can_ask, credit),
        }?;
        self.spent.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back a call that was taken.
    pub(super) fn give_back(&self) {
        let _ = self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spent| spent.checked_sub(1));
        match &self.left {
            Left::Rate(rate) => rate.give_back(),
            Left::Quota(quota) => quota.give_back(),
        }
    }

    /// Whether the control plane should be told of it at once, which the caller then sees to.
    pub(super) fn must_ask(&self, clock: Clock) -> bool {
        let needs = match &self.left {
            Left::Rate(rate) => clock.now >= rate.share().good_until,
            // Once it is used up, a round is soon enough to hear that some was given back.
            Left::Quota(quota) => !quota.is_over(clock.now_s) && self.is_low(quota, clock),
        };
        let may = clock.can_ask && clock.now >= self.ask_from.load(Ordering::Relaxed);
        needs && may && !self.is_waiting.swap(true, Ordering::Relaxed)
    }

    /// Whether its share is in use, or has to be asked for.
    pub(super) fn is_active(&self, clock: Clock) -> bool {
        let is_used = clock.now < self.tried_at.load(Ordering::Relaxed).saturating_add(IDLE);
        let needs = || match &self.left {
            Left::Rate(_) => true,
            Left::Quota(quota) => self.is_low(quota, clock),
        };
        is_used && needs()
    }

    /// Whether half of what is likely to be needed is gone.
    fn is_low(&self, quota: &Quota, clock: Clock) -> bool {
        quota.leased(clock.now_s) < self.wanted(clock.now).div_ceil(2)
    }

    /// What the control plane is to be told of it.
    pub(super) fn demand(&self, clock: Clock) -> LimitDemand {
        self.is_waiting.store(false, Ordering::Relaxed);
        self.ask_from.store(clock.now.saturating_add(ASK_EVERY), Ordering::Relaxed);
        let leased = match &self.left {
            Left::Rate(_) => 0,
            Left::Quota(quota) => quota.leased(clock.now_s),
        };
        let wanted = self.wanted(clock.now).saturating_sub(leased);
        self.count_anew(clock.now);
        LimitDemand { wanted: count(wanted), ..self.told(0) }
    }

    /// Takes back what was leased and is left, for the end of the edge; `None` where there is nothing.
    pub(super) fn end(&self, clock: Clock) -> Option<LimitDemand> {
        let Left::Quota(quota) = &self.left else { return None };
        let returned = quota.take_all(clock.now_s);
        (returned > 0).then(|| self.told(returned))
    }

    fn told(&self, returned: u64) -> LimitDemand {
        let spent = self.spent.swap(0, Ordering::Relaxed);
        LimitDemand {
            bucket: self.key.to_string(),
            spent: count(spent),
            wanted: 0,
            returned: count(returned),
        }
    }

    /// Notes how many calls came a second, once they were counted for long enough.
    fn count_anew(&self, now: u64) {
        let time = now.saturating_sub(self.since.load(Ordering::Relaxed));
        if time >= WINDOW {
            let tried = self.tried.swap(0, Ordering::Relaxed);
            self.per_second.store(tried.saturating_mul(SECOND).div_ceil(time), Ordering::Relaxed);
            self.since.store(now, Ordering::Relaxed);
        }
    }

    /// The calls that are likely to come within the time that is asked for.
    fn wanted(&self, now: u64) -> u64 {
        let time = now.saturating_sub(self.since.load(Ordering::Relaxed)).max(SECOND);
        let of_late = self.tried.load(Ordering::Relaxed).saturating_mul(SECOND).div_ceil(time);
        let ahead = of_late.max(self.per_second.load(Ordering::Relaxed)).saturating_mul(AHEAD);
        match &self.left {
            Left::Rate(_) => ahead,
            Left::Quota(_) => ahead.max(AT_LEAST),
        }
    }

    /// Goes on with what a control plane has leased, upon a request that was sent at `asked`.
    pub(super) fn apply(&self, lease: &LimitLease, asked: u64, clock: Clock) {
        let small = |number: i64| u32::try_from(number.max(0)).unwrap_or(u32::MAX);
        let large = |number: i64| u64::try_from(number).unwrap_or(0);
        match &self.left {
            Left::Rate(rate) => {
                let ttl = lease.ttl.and_then(|ttl| Duration::try_from(ttl).ok()).unwrap_or_default();
                let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
                let share = RateShare {
                    milli_per_second: small(lease.milli_per_second),
                    burst: small(lease.burst),
                    good_until: asked.saturating_add(ttl),
                };
                rate.set(share, clock.now);
            }
            Left::Quota(quota) => {
                let period_end = lease.period_end_time.map_or(0, |time| large(time.seconds));
                let (calls, remaining) = (large(lease.calls), large(lease.remaining));
                quota.add(QuotaLease { calls, period_end, remaining });
            }
        }
    }

    /// Whether what is known of it still matters.
    pub(super) fn is_of_use(&self, clock: Clock) -> bool {
        let is_idle = clock.now >= self.tried_at.load(Ordering::Relaxed).saturating_add(IDLE);
        match &self.left {
            Left::Rate(rate) => !is_idle || rate.left(clock.now).1 > Duration::ZERO,
            Left::Quota(quota) => !is_idle || quota.is_of_use(clock.now_s),
        }
    }

    /// The calls that are left, and the time until there are all of them again. `None`: no control plane has said anything yet.
    pub(super) fn left(&self, clock: Clock) -> Option<(u64, Duration)> {
        match &self.left {
            Left::Rate(rate) => rate.has_share().then(|| rate.left(clock.now)),
            Left::Quota(quota) => {
                quota.is_leased(clock.now_s).then(|| quota.left(self.limit.period, clock.now_s))
            }
        }
    }

    /// The seconds of its period.
    pub(super) fn window(&self, now_s: u64) -> u64 {
        match self.limit.period {
            Period::Second => 1,
            Period::Minute => 60,
            Period::Hour => 3_600,
            Period::Day => 86_400,
            Period::Month => {
                let (begin, _) = Period::Month.bounds(i64::try_from(now_s).unwrap_or(i64::MAX));
                end_of(Period::Month, now_s).saturating_sub(u64::try_from(begin).unwrap_or(0))
            }
        }
    }
}

/// The calls that pass at an edge before it has a share: one, or of a large limit a small part.
fn credit(limit: &Limit) -> u64 {
    let part = match limit.kind {
        LimitKind::Rate => 20,
        LimitKind::Quota => 1_000,
    };
    (limit.calls / part).clamp(1, MOST_ON_CREDIT)
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(now: u64) -> Clock {
        Clock { now, now_s: 1_796_000_000, can_ask: true }
    }

    #[test]
    fn credit_is_a_small_part_of_a_limit() {
        let of = |text: &str| credit(&Limit::rate(text).or_else(|_| Limit::quota(text)).unwrap());
        assert_eq!(["1/s", "39/s", "100/min", "100000/s"].map(of), [1, 1, 5, 16]);
        assert_eq!(["1/hour", "1000/day", "10000/month", "100000000/month"].map(of), [1, 1, 10, 16]);
    }

    #[test]
    fn an_edge_asks_at_first_use_and_then_for_what_is_likely_to_come() {
        let quota = Bucket::new("u/q0/-/-", Limit::quota("100000/day").unwrap(), 0);
        assert_eq!(quota.take(at(0)), Ok(()));
        assert!(quota.must_ask(at(0)) && !quota.must_ask(at(0)), "once");
        let demand = quota.demand(at(0));
        assert_eq!((demand.spent, demand.wanted, demand.returned), (1, 16, 0));
        let lease = LimitLease {
            calls: 16,
            period_end_time: Some(prost_types::Timestamp { seconds: 1_796_083_200, nanos: 0 }),
            ..LimitLease::default()
        };
        quota.apply(&lease, 0, at(0));
        assert!(!quota.must_ask(at(SECOND / 4)) && !quota.is_active(at(0)));
        for _ in 0..8 {
            assert_eq!(quota.take(at(SECOND / 2)), Ok(()));
        }
        // Seven are left, and nine have come in half a second.
        assert!(quota.must_ask(at(SECOND / 2)));
        assert_eq!(quota.demand(at(SECOND / 2)).wanted, 18 - 7);
        // As many are expected as came before.
        assert_eq!((quota.demand(at(SECOND / 2)).wanted, quota.wanted(SECOND / 2)), (36 - 7, 36));
        assert_eq!(quota.end(at(SECOND)).map(|demand| demand.returned), Some(7));
        assert_eq!(quota.end(at(SECOND)), None);
    }

    #[test]
    fn who_is_over_a_quota_does_not_keep_a_control_plane_busy() {
        let quota = Bucket::new("u/q0/-/-", Limit::quota("1/day").unwrap(), 0);
        assert_eq!(quota.take(at(0)), Ok(()));
        assert!(quota.must_ask(at(0)));
        quota.demand(at(0));
        assert!(!quota.must_ask(at(ASK_EVERY - 1)) && quota.must_ask(at(ASK_EVERY)));
        quota.demand(at(ASK_EVERY));
        let nothing = LimitLease {
            period_end_time: Some(prost_types::Timestamp { seconds: 1_796_083_200, nanos: 0 }),
            ..LimitLease::default()
        };
        quota.apply(&nothing, ASK_EVERY, at(ASK_EVERY));
        assert!(quota.take(at(SECOND)).is_err());
        assert!(
            !quota.must_ask(at(SECOND)) && quota.is_active(at(SECOND)),
            "it is told of in the next round"
        );
    }

    #[test]
    fn a_rate_is_told_of_while_it_is_used() {
        let rate = Bucket::new("u/r0/-/-", Limit::rate("10/s").unwrap(), 0);
        assert_eq!(rate.take(at(0)), Ok(()));
        assert!(rate.must_ask(at(0)));
        let share = LimitLease {
            milli_per_second: 10_000,
            burst: 10,
            ttl: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
            ..LimitLease::default()
        };
        assert_eq!(rate.demand(at(0)).spent, 1);
        rate.apply(&share, 0, at(0));
        assert!(!rate.must_ask(at(1)) && rate.is_active(at(1)));
        assert_eq!(rate.left(at(0)).map(|(calls, _)| calls), Some(9));
        assert!(rate.is_of_use(at(IDLE - 1)) && !rate.is_of_use(at(IDLE)) && !rate.is_active(at(IDLE)));
    }
}
