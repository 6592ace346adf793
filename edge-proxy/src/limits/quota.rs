//! A quota at this edge: the calls that it has leased for the period that it is, in one atomic number.
//!
//! It must not know who is limited, nor where leases come from.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use access::limit::Period;

use super::Refused;

const HOUR: u64 = 3_600;
/// The bits of the calls that are left; the others are the hour at which the period ends.
const LEFT_BITS: u32 = 40;
const MOST: u64 = (1 << LEFT_BITS) - 1;
/// Until an edge has more it asks for it; that takes about a round trip.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A lease of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QuotaLease {
    /// The calls that may be made beside those that were leased before.
    pub(super) calls: u64,
    /// When the period ends, in seconds since the Unix epoch.
    pub(super) period_end: u64,
    /// The calls that are left for all edges.
    pub(super) remaining: u64,
}

/// What is left of the leases of a quota.
#[derive(Debug, Default)]
pub(super) struct Quota {
    state: AtomicU64,
    /// The calls that passed on credit, and the hour at which their period ends.
    credit: AtomicU64,
    /// The calls that were left for all edges, by the last word of a control plane.
    remaining: AtomicU64,
    /// True once there were none.
    is_exhausted: AtomicBool,
}

/// The hour at which a period ends, and a number of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packed {
    end_hour: u64,
    calls: u64,
}

impl Packed {
    fn read(word: u64) -> Self {
        Self { end_hour: word >> LEFT_BITS, calls: word & MOST }
    }

    fn word(self) -> u64 {
        self.end_hour << LEFT_BITS | self.calls.min(MOST)
    }
}

impl Quota {
    /// Takes one call at `now_s`. `can_ask` says whether a control plane can be reached: without one nothing is given on credit.
    pub(super) fn take(&self, period: Period, now_s: u64, can_ask: bool, credit: u64) -> Result<(), Refused> {
        let one_less = |word: u64| {
            let Packed { end_hour, calls } = Packed::read(word);
            (now_s < end_hour * HOUR && calls > 0).then(|| Packed { end_hour, calls: calls - 1 }.word())
        };
        match self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
            Ok(_) => Ok(()),
            Err(word) => self.take_on_credit(Packed::read(word), period, now_s, can_ask, credit),
        }
    }

    fn take_on_credit(
        &self,
        state: Packed,
        period: Period,
        now_s: u64,
        can_ask: bool,
        credit: u64,
    ) -> Result<(), Refused> {
        if now_s < state.end_hour * HOUR {
            let is_over = self.is_exhausted.load(Ordering::Relaxed);
            let left = Duration::from_secs((state.end_hour * HOUR).saturating_sub(now_s));
            return Err(Refused { retry_after: if is_over { left } else { ASK_AGAIN } });
        }
        let end_hour = end_of(period, now_s) / HOUR;
        let one_more = |word: u64| {
            let used = Packed::read(word);
            let calls = if used.end_hour == end_hour { used.calls } else { 0 };
            (calls < credit).then(|| Packed { end_hour, calls: calls + 1 }.word())
        };
        if can_ask && self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok() {
            return Ok(());
        }
        Err(Refused { retry_after: ASK_AGAIN })
    }

    /// Gives back a call that was taken.
    pub(super) fn give_back(&self) {
        let more = |word: u64| {
            let Packed { end_hour, calls } = Packed::read(word);
            (end_hour > 0).then(|| Packed { end_hour, calls: calls + 1 }.word())
        };
        let less = |word: u64| {
            let Packed { end_hour, calls } = Packed::read(word);
            Some(Packed { end_hour, calls: calls.saturating_sub(1) }.word())
        };
        if self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            let _ = self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    /// Adds a lease. What passed on credit in its period is taken from it.
    pub(super) fn add(&self, lease: QuotaLease) {
        let end_hour = lease.period_end / HOUR;
        let owed = Packed::read(self.credit.load(Ordering::Relaxed));
        let owed = if owed.end_hour == end_hour { owed.calls.min(lease.calls) } else { 0 };
        let paid = |word: u64| {
            let Packed { end_hour, calls } = Packed::read(word);
            Some(Packed { end_hour, calls: calls.saturating_sub(owed) }.word())
        };
        let _ = self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid);
        let more = |word: u64| {
            let before = Packed::read(word);
            let left = if before.end_hour == end_hour { before.calls } else { 0 };
            Some(Packed { end_hour, calls: left.saturating_add(lease.calls - owed) }.word())
        };
        self.remaining.store(lease.remaining, Ordering::Relaxed);
        self.is_exhausted.store(lease.calls == 0 && lease.remaining == 0, Ordering::Relaxed);
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether all of the period that it is at `now_s` is used up, at every edge.
    pub(super) fn is_over(&self, now_s: u64) -> bool {
        let Packed { end_hour, calls } = Packed::read(self.state.load(Ordering::Relaxed));
        calls == 0 && now_s < end_hour * HOUR && self.is_exhausted.load(Ordering::Relaxed)
    }

    /// Whether something was leased of the period that it is at `now_s`.
    pub(super) fn is_leased(&self, now_s: u64) -> bool {
        now_s < Packed::read(self.state.load(Ordering::Relaxed)).end_hour * HOUR
    }

    /// The calls that are leased and left at `now_s`.
    pub(super) fn leased(&self, now_s: u64) -> u64 {
        let Packed { end_hour, calls } = Packed::read(self.state.load(Ordering::Relaxed));
        if now_s < end_hour * HOUR { calls } else { 0 }
    }

    /// Takes all that is left at `now_s`, to give it back to the control plane.
    pub(super) fn take_all(&self, now_s: u64) -> u64 {
        let none = |word: u64| Some(Packed { calls: 0, ..Packed::read(word) }.word());
        let before = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, none);
        let Packed { end_hour, calls } = Packed::read(before.unwrap_or_default());
        if now_s < end_hour * HOUR { calls } else { 0 }
    }

    /// Whether what is known of it still matters at `now_s`.
    pub(super) fn is_of_use(&self, now_s: u64) -> bool {
        let ends =
            [&self.state, &self.credit].map(|word| Packed::read(word.load(Ordering::Relaxed)).end_hour);
        ends.iter().any(|end_hour| now_s < end_hour * HOUR)
    }

    /// The calls that are left for all edges as far as is known, and the time until the period ends.
    pub(super) fn left(&self, period: Period, now_s: u64) -> (u64, Duration) {
        let left = self.leased(now_s).saturating_add(self.remaining.load(Ordering::Relaxed));
        (left, Duration::from_secs(end_of(period, now_s).saturating_sub(now_s)))
    }
}

/// When the period that a time is in ends.
pub(super) fn end_of(period: Period, now_s: u64) -> u64 {
    let (_, end) = period.bounds(i64::try_from(now_s).unwrap_or(i64::MAX));
    u64::try_from(end).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half an hour before midnight.
    const NOW: u64 = 1_796_083_200 - 1_800;
    const MIDNIGHT: u64 = 1_796_083_200;

    fn lease(calls: u64, remaining: u64) -> QuotaLease {
        QuotaLease { calls, period_end: MIDNIGHT, remaining }
    }

    fn taken(quota: &Quota, now_s: u64, can_ask: bool, attempts: usize) -> usize {
        (0..attempts).filter(|_| quota.take(Period::Day, now_s, can_ask, 1).is_ok()).count()
    }

    #[test]
    fn what_is_leased_passes_and_no_more() {
        assert_eq!(end_of(Period::Day, NOW), MIDNIGHT);
        let quota = Quota::default();
        quota.add(lease(3, 7));
        assert_eq!(quota.left(Period::Day, NOW), (10, Duration::from_secs(1_800)));
        assert_eq!(taken(&quota, NOW, true, 20), 3);
        assert_eq!(quota.take(Period::Day, NOW, true, 1), Err(Refused { retry_after: ASK_AGAIN }));
        quota.give_back();
        quota.add(lease(2, 5));
        assert_eq!((quota.leased(NOW), taken(&quota, NOW, true, 20)), (3, 3));
        quota.add(lease(0, 0));
        let over = Refused { retry_after: Duration::from_secs(1_800) };
        assert_eq!(quota.take(Period::Day, NOW, true, 1), Err(over));
    }

    #[test]
    fn a_call_on_credit_is_taken_from_the_lease_and_there_is_one_in_a_period() {
        let quota = Quota::default();
        assert_eq!(taken(&quota, NOW, false, 20), 0, "who cannot ask has no credit");
        assert_eq!(taken(&quota, NOW, true, 20), 1);
        quota.add(lease(3, 7));
        assert_eq!(taken(&quota, NOW, true, 20), 2);
        assert!(quota.is_of_use(NOW) && !quota.is_of_use(MIDNIGHT));
        assert_eq!(taken(&quota, MIDNIGHT, false, 20), 0, "what was leased ends with its period");
        assert_eq!(taken(&quota, MIDNIGHT, true, 20), 1);
        quota.add(QuotaLease { calls: 0, period_end: MIDNIGHT + 86_400, remaining: 0 });
        assert_eq!(taken(&quota, MIDNIGHT, true, 20), 0);
    }

    #[test]
    fn what_is_left_goes_back_once() {
        let quota = Quota::default();
        quota.add(lease(5, 0));
        assert_eq!(taken(&quota, NOW, true, 2), 2);
        assert_eq!((quota.take_all(NOW), quota.take_all(NOW)), (3, 0));
        assert_eq!(taken(&quota, NOW, true, 20), 0);
        quota.add(lease(5, 0));
        assert_eq!(quota.take_all(MIDNIGHT), 0, "what ended with its period is nobody's");
    }
}
