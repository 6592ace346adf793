//! How often the announcements of an upstream lead to an import. Pure.
//!
//! It must not know what is announced or imported.

use std::time::Duration;

use tokio::time::Instant;

/// Announcements within this time lead to one import.
const COALESCE: Duration = Duration::from_millis(100);
/// The imports that follow announcements at once after a quiet time, and the interval of all further ones.
const BURST: u32 = 30;
const INTERVAL: Duration = Duration::from_secs(2);

/// The pace of the imports of one upstream: quick at first, then one an interval, and never more than half of the time.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The time at which imports at the interval would have come so far.
    due: Option<Instant>,
}

impl Pace {
    /// Returns for how long to gather announcements before the next import; the last one took `took`.
    pub(super) fn wait(&mut self, now: Instant, took: Duration) -> Duration {
        let due = self.due.map_or(now, |due| due.max(now));
        let ahead = due.saturating_duration_since(now);
        let wait = ahead.saturating_sub(INTERVAL * (BURST - 1)).max(took).max(COALESCE);
        self.due = Some(due.max(now + wait) + INTERVAL);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long each of some imports waits that are announced all the time.
    fn waits(pace: &mut Pace, now: &mut Instant, imports: usize, took: Duration) -> Vec<u128> {
        let one = |_| {
            let wait = pace.wait(*now, took);
            *now += wait + took;
            wait.as_millis()
        };
        (0..imports).map(one).collect()
    }

    #[test]
    fn the_first_announcements_are_followed_at_once_and_a_storm_at_intervals() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let storm = waits(&mut pace, &mut now, 60, Duration::ZERO);
        assert_eq!(storm[..30], [100; 30]);
        assert!(storm[33..].iter().all(|wait| *wait == 2_000), "{storm:?}");
        now += INTERVAL * BURST;
        assert_eq!(waits(&mut pace, &mut now, 3, Duration::ZERO), [100; 3]);
    }

    #[test]
    fn imports_that_take_long_take_half_of_the_time() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let took = Duration::from_secs(40);
        assert_eq!(waits(&mut pace, &mut now, 5, took), [40_000; 5]);
    }
}
