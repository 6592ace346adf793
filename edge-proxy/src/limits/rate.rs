//! A rate at this edge: the generic cell rate algorithm in one atomic number, over the share that the edge has of it.
//!
//! The number is the time at which the last call will have been paid for (the theoretical arrival time), in nanoseconds of a clock
//! that only runs forward. It must not know who is limited, nor where shares come from.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Refused;

const SECOND: u64 = 1_000_000_000;
/// Until an edge has its share it asks for it; that takes about a round trip.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A share of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RateShare {
    /// Thousandths of a call a second. 0: none.
    pub(super) milli_per_second: u32,
    /// The calls that may come at once.
    pub(super) burst: u32,
    /// Until when the control plane keeps it for this edge.
    pub(super) good_until: u64,
}

impl RateShare {
    /// The time that one call takes.
    fn interval(self) -> u64 {
        (1_000 * SECOND).checked_div(u64::from(self.milli_per_second)).unwrap_or(u64::MAX)
    }

    /// The calls that are not paid for yet at `now`.
    fn owed(self, paid_at: u64, now: u64) -> u64 {
        if self.milli_per_second == 0 { 0 } else { paid_at.saturating_sub(now).div_ceil(self.interval()) }
    }
}

/// What is left of the share of a rate.
#[derive(Debug, Default)]
pub(super) struct Rate {
    paid_at: AtomicU64,
    /// The rate and the burst of the share, in one.
    share: AtomicU64,
    good_until: AtomicU64,
    /// Calls that passed on credit since there was a share.
    on_credit: AtomicU64,
    /// True once the control plane has said that there is nothing at present.
    is_refused: AtomicBool,
}

impl Rate {
    /// Takes one call at `now`. `can_ask` says whether a control plane can be reached: without one, the last share stays.
    pub(super) fn take(&self, now: u64, can_ask: bool, credit: u64) -> Result<(), Refused> {
        let share = self.share();
        if share.milli_per_second == 0 || (can_ask && now >= share.good_until) {
            return self.take_on_credit(can_ask, credit);
        }
        let interval = share.interval();
        let room = interval.saturating_mul(u64::from(share.burst));
        let paid = |paid_at: u64| {
            let next = paid_at.max(now).saturating_add(interval);
            (next.saturating_sub(now) <= room).then_some(next)
        };
        match self.paid_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid) {
            Ok(_) => Ok(()),
            Err(paid_at) => {
                let wait = paid_at.saturating_add(interval).saturating_sub(now).saturating_sub(room);
                Err(Refused { retry_after: Duration::from_nanos(wait) })
            }
        }
    }

    fn take_on_credit(&self, can_ask: bool, credit: u64) -> Result<(), Refused> {
        let more = |used: u64| (used < credit).then_some(used + 1);
        let may = can_ask && !self.is_refused.load(Ordering::Relaxed);
        if may && self.on_credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
            return Ok(());
        }
        Err(Refused { retry_after: ASK_AGAIN })
    }

    /// Gives back a call that was taken.
    pub(super) fn give_back(&self) {
        let share = self.share();
        let (taken_from, less) = match share.milli_per_second {
            0 => (&self.on_credit, 1),
            _ => (&self.paid_at, share.interval()),
        };
        let given = |taken: u64| Some(taken.saturating_sub(less));
        let _ = taken_from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, given);
    }

    /// Goes on with another share. What was taken from the one before, and on credit, stays taken; a larger burst than that of a
    /// share in force has to be earned, because others may have used it.
    pub(super) fn set(&self, new: RateShare, now: u64) {
        let before = self.share();
        self.is_refused.store(new.milli_per_second == 0, Ordering::Relaxed);
        let credit = if new.milli_per_second == 0 { 0 } else { self.on_credit.swap(0, Ordering::Relaxed) };
        let is_in_force = before.milli_per_second > 0 && now < before.good_until;
        let unearned = if is_in_force { u64::from(new.burst.saturating_sub(before.burst)) } else { 0 };
        let moved = |paid_at: u64| {
            let owed = before.owed(paid_at, now) + credit + unearned;
            Some(now.saturating_add(owed.saturating_mul(new.interval())))
        };
        if new.milli_per_second > 0 {
            let _ = self.paid_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved);
        }
        let packed = u64::from(new.milli_per_second) << 32 | u64::from(new.burst);
        self.share.store(packed, Ordering::Relaxed);
        self.good_until.store(new.good_until, Ordering::Relaxed);
    }

    /// The share.
    pub(super) fn share(&self) -> RateShare {
        let packed = self.share.load(Ordering::Relaxed);
        RateShare {
            milli_per_second: u32::try_from(packed >> 32).unwrap_or(u32::MAX),
            burst: u32::try_from(packed & u64::from(u32::MAX)).unwrap_or(u32::MAX),
            good_until: self.good_until.load(Ordering::Relaxed),
        }
    }

    /// Whether a share was given.
    pub(super) fn has_share(&self) -> bool {
        self.share().burst > 0
    }

    /// The calls that could be made now, and the time until all of the share can.
    pub(super) fn left(&self, now: u64) -> (u64, Duration) {
        let (share, paid_at) = (self.share(), self.paid_at.load(Ordering::Relaxed));
        let left = u64::from(share.burst).saturating_sub(share.owed(paid_at, now));
        (left, Duration::from_nanos(paid_at.saturating_sub(now)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(milli_per_second: u32, burst: u32) -> RateShare {
        RateShare { milli_per_second, burst, good_until: u64::MAX }
    }

    fn taken(rate: &Rate, now: u64, attempts: u64) -> u64 {
        (0..attempts).filter(|_| rate.take(now, true, 1).is_ok()).count() as u64
    }

    #[test]
    fn a_burst_passes_at_once_and_then_so_many_a_second() {
        let rate = Rate::default();
        rate.set(share(5_000, 5), 0);
        assert_eq!(rate.left(0), (5, Duration::ZERO));
        assert_eq!(taken(&rate, 0, 20), 5);
        assert_eq!(rate.take(0, true, 1), Err(Refused { retry_after: Duration::from_millis(200) }));
        assert_eq!(rate.left(0), (0, Duration::from_secs(1)));
        assert_eq!(taken(&rate, SECOND / 5 - 1, 20), 0);
        assert_eq!(taken(&rate, SECOND / 5, 20), 1);
        assert_eq!(taken(&rate, 100 * SECOND, 20), 5, "an idle time is worth a burst and no more");
        rate.give_back();
        assert_eq!(taken(&rate, 100 * SECOND, 20), 1);
    }

    #[test]
    fn until_there_is_a_share_calls_pass_on_credit_which_is_paid_back() {
        let rate = Rate::default();
        assert_eq!(taken(&rate, 7, 20), 1);
        assert_eq!(rate.take(7, true, 1), Err(Refused { retry_after: ASK_AGAIN }));
        rate.set(share(5_000, 5), 7);
        assert_eq!(taken(&rate, 7, 20), 4);
        // Nothing is to be had: there is no credit then either.
        rate.set(share(0, 0), 7);
        assert_eq!(taken(&rate, 7, 20), 0);
    }

    #[test]
    fn without_a_control_plane_the_last_share_stays_and_nothing_is_given_on_credit() {
        let (rate, fresh) = (Rate::default(), Rate::default());
        assert!(fresh.take(0, false, 1).is_err());
        rate.set(RateShare { good_until: SECOND, ..share(1_000, 1) }, 0);
        for second in 5..10 {
            assert_eq!(rate.take(second * SECOND, false, 1), Ok(()), "{second}");
            assert!(rate.take(second * SECOND, false, 1).is_err(), "{second}");
        }
        // The control plane answers again, and may have given it to others: one on credit, until it says more.
        assert_eq!(taken(&rate, 20 * SECOND, 20), 1);
    }

    #[test]
    fn what_was_taken_stays_taken_when_the_share_changes() {
        let rate = Rate::default();
        rate.set(share(10_000, 10), 0);
        assert_eq!(taken(&rate, 0, 20), 10);
        rate.set(share(1_000, 1), 0);
        assert_eq!(taken(&rate, 9 * SECOND, 20), 0);
        assert_eq!(taken(&rate, 10 * SECOND, 20), 1);
        rate.set(share(10_000, 10), 10 * SECOND);
        assert_eq!(taken(&rate, 10 * SECOND, 20), 0, "a larger burst is earned first");
        assert_eq!(taken(&rate, 11 * SECOND, 20), 10);
    }

    proptest! {
        /// Over any time no more than a burst and the rate pass, whatever is asked when.
        #[test]
        fn no_more_passes_than_a_burst_and_the_rate(
            per_second in 1u32..1_000,
            steps in proptest::collection::vec((0u64..2 * SECOND, 1u64..50), 1..60),
        ) {
            let rate = Rate::default();
            rate.set(share(per_second * 1_000, per_second), 0);
            let (mut now, mut passed) = (0, 0);
            for (pause, attempts) in steps {
                now += pause;
                passed += taken(&rate, now, attempts);
                let most = u64::from(per_second) + now * u64::from(per_second) / SECOND + 1;
                prop_assert!(passed <= most, "{} of {}", passed, most);
            }
        }
    }
}
