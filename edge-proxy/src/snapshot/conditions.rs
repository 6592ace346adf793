//! The conditions of tokens, ready to be evaluated. What of them could not be read allows nothing.
//!
//! It must not know requests.

use access::address::AddressRanges;
use access::window::Windows;
use arc_swap::ArcSwap;

use super::MethodSet;

/// The conditions of a token that has any.
#[derive(Debug)]
pub struct Conditions {
    /// True if its owner is disabled.
    pub suspended: bool,
    /// The time at which it begins, in seconds since the Unix epoch.
    pub not_before: Option<u64>,
    /// The addresses that clients may have. `None`: any.
    pub from: Option<AddressRanges>,
    /// The times at which it is valid. `None`: always.
    pub times: Option<OpenTimes>,
    /// The methods that it may use.
    pub methods: MethodSet,
}

/// Weekly times, and the one of the moment, so that most calls compare two numbers.
#[derive(Debug)]
pub struct OpenTimes {
    windows: Windows,
    present: ArcSwap<Span>,
}

/// A time throughout which they are open, or closed.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: i64,
    until: i64,
    is_open: bool,
}

impl OpenTimes {
    /// Creates the times of `windows`.
    pub fn new(windows: Windows) -> OpenTimes {
        OpenTimes { windows, present: ArcSwap::from_pointee(Span { from: 0, until: 0, is_open: false }) }
    }

    /// Returns whether they are open at `now`, and the seconds for which that stays so; `None`: for ever.
    pub fn at(&self, now: u64) -> (bool, Option<u64>) {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let Span { until, is_open, .. } = self.span(now);
        (is_open, (until != i64::MAX).then(|| until.abs_diff(now)))
    }

    fn span(&self, now: i64) -> Span {
        let present = **self.present.load();
        // A clock that is set back leads out of it as well.
        if (present.from..present.until).contains(&now) {
            return present;
        }
        let until = self.windows.next_change(now).unwrap_or(i64::MAX).max(now.saturating_add(1));
        let found = Span { from: now, until, is_open: self.windows.is_open(now) };
        self.present.store(found.into());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_moment_wherever_the_clock_goes() {
        let windows = Windows::new(vec!["Thu 00:10-00:20 UTC".parse().unwrap()]);
        let times = OpenTimes::new(windows);
        let week = 7 * 86_400;
        // 1970 began on a Thursday.
        let moments = [
            (0, (false, Some(600))),
            (599, (false, Some(1))),
            (600, (true, Some(600))),
            (1_199, (true, Some(1))),
            (1_200, (false, Some(week - 600))),
            (700, (true, Some(500))),
            (1, (false, Some(599))),
            (week + 600, (true, Some(600))),
        ];
        for (now, expected) in moments {
            assert_eq!(times.at(now), expected, "{now}");
            assert_eq!(times.at(now), expected, "{now}, when it is known");
        }
        let never = OpenTimes::new(Windows::new(Vec::new()));
        assert_eq!(never.at(5), (false, None));
        assert!(!never.at(u64::MAX).0);
    }
}
