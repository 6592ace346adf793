//! Pauses between attempts.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(15);

/// Pauses that double from 100 ms to 15 s, each shortened at random by up to half, so that edges that lost a control
/// plane at the same moment do not return at the same moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns the next pause; `chance` is a random number from 0 to 1.
    pub(crate) fn next(&mut self, chance: f64) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    }

    /// Notes how long the last attempt lasted. After one that outlasted the longest pause, the next pause is short again:
    /// a message alone is no success, since the next message may be what ends every stream.
    pub(crate) fn ended_after(&mut self, lasted: Duration) {
        if lasted > LONGEST {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_bound_and_start_again_after_a_stream_that_lasted() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..10).map(|_| backoff.next(0.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000]);
        backoff.ended_after(LONGEST);
        assert_eq!(backoff.next(0.0), LONGEST, "streams that end again and again");
        backoff.ended_after(LONGEST * 2);
        assert_eq!(backoff.next(1.0), FIRST / 2);
    }
}
