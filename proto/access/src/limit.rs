//! Rates and quotas as they are written: how many calls, in which time, counted by what. It must not know what was called.

use std::fmt;

use crate::text::quoted;

/// How much may be called in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// What it is.
    pub kind: LimitKind,
    /// How many calls.
    pub calls: u64,
    /// In which time.
    pub period: Period,
    /// What is counted on its own.
    pub per: Per,
}

/// What a limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// How fast: a second or a minute, any of them.
    Rate,
    /// How much: an hour, a day or a month of the calendar of UTC.
    Quota,
}

/// A time in which calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// `s`.
    Second,
    /// `min`.
    Minute,
    /// `hour`.
    Hour,
    /// `day`.
    Day,
    /// `month`.
    Month,
}

/// What calls are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Per {
    /// All of them together.
    All,
    /// Those of each server.
    Server,
    /// Those of each tool, prompt and resource of each server.
    Tool,
}

/// Text that is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Not one.
    #[error("{text} is no {kind}; write one such as {}", .kind.examples())]
    Unknown {
        /// As written.
        text: String,
        /// What it should be.
        kind: LimitKind,
    },
    /// It is one of the other kind.
    #[error("{text} is a {other}, not a {kind}; write it among the {}, or one such as {}", .kind.other().plural(), .kind.examples(), other = .kind.other())]
    Other {
        /// As written.
        text: String,
        /// What it should be.
        kind: LimitKind,
    },
    /// It allows nothing.
    #[error("{0} allows no call at all; write at least 1, or revoke what should not be used")]
    Zero(String),
    /// It allows more than can come.
    #[error("{text} is more than a {kind} can be; write at most {}, or leave it out", .kind.most())]
    TooMany {
        /// As written.
        text: String,
        /// What it should be.
        kind: LimitKind,
    },
}

impl LimitKind {
    /// The most calls that make sense.
    #[must_use]
    pub const fn most(self) -> u64 {
        match self {
            Self::Rate => 1_000_000,
            Self::Quota => 1_000_000_000_000,
        }
    }

    const fn examples(self) -> &'static str {
        match self {
            Self::Rate => "5/s, 100/min or 5/s per tool",
            Self::Quota => "50/hour, 200/day per server or 10000/month per tool",
        }
    }

    const fn plural(self) -> &'static str {
        match self {
            Self::Rate => "rates",
            Self::Quota => "quotas",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Rate => Self::Quota,
            Self::Quota => Self::Rate,
        }
    }
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rate => "rate",
            Self::Quota => "quota",
        })
    }
}

impl Limit {
    /// The rate that is written so: `5/s`, `100/min per server`.
    ///
    /// # Errors
    /// With what to write.
    pub fn rate(text: &str) -> Result<Self, LimitError> {
        Self::read(text, LimitKind::Rate)
    }

    /// The quota that is written so: `50/hour`, `10000/month per tool`.
    ///
    /// # Errors
    /// With what to write.
    pub fn quota(text: &str) -> Result<Self, LimitError> {
        Self::read(text, LimitKind::Quota)
    }

    fn read(text: &str, kind: LimitKind) -> Result<Self, LimitError> {
        let unknown = || LimitError::Unknown { text: quoted(text), kind };
        let mut words = text.split_ascii_whitespace();
        let (digits, unit) = words.next().and_then(|word| word.split_once('/')).ok_or_else(unknown)?;
        let period = Period::named(unit).ok_or_else(unknown)?;
        let per = Per::named(&words.collect::<Vec<_>>()).ok_or_else(unknown)?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(unknown());
        }
        if period.kind() != kind {
            return Err(LimitError::Other { text: quoted(text), kind });
        }
        match digits.parse().unwrap_or(u64::MAX) {
            0 => Err(LimitError::Zero(quoted(text))),
            calls if calls > kind.most() => Err(LimitError::TooMany { text: quoted(text), kind }),
            calls => Ok(Self { kind, calls, period, per }),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.calls, self.period, self.per)
    }
}

impl Per {
    fn named(words: &[&str]) -> Option<Self> {
        match words {
            [] => Some(Self::All),
            ["per", "server"] => Some(Self::Server),
            ["per", "tool"] => Some(Self::Tool),
            _ => None,
        }
    }
}

impl fmt::Display for Per {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "",
            Self::Server => " per server",
            Self::Tool => " per tool",
        })
    }
}

const DAY: i64 = 86_400;

impl Period {
    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "s" => Self::Second,
            "min" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "month" => Self::Month,
            _ => return None,
        })
    }

    /// What is counted in it.
    #[must_use]
    pub const fn kind(self) -> LimitKind {
        match self {
            Self::Second | Self::Minute => LimitKind::Rate,
            Self::Hour | Self::Day | Self::Month => LimitKind::Quota,
        }
    }

    /// The period of the calendar of UTC that a time is in: its first second, and the first one after it. Seconds count from 1970.
    #[must_use]
    pub fn bounds(self, now_s: i64) -> (i64, i64) {
        match self {
            Self::Second => even(now_s, 1),
            Self::Minute => even(now_s, 60),
            Self::Hour => even(now_s, 3_600),
            Self::Day => even(now_s, DAY),
            Self::Month => month(now_s),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "s",
            Self::Minute => "min",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        })
    }
}

fn even(now_s: i64, length: i64) -> (i64, i64) {
    let begin = now_s.saturating_sub(now_s.rem_euclid(length));
    (begin, begin.saturating_add(length))
}

fn month(now_s: i64) -> (i64, i64) {
    let today =
        jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::from_second(now_s).unwrap_or_default()).date();
    let begin = even(now_s, DAY).0.saturating_sub((i64::from(today.day()) - 1) * DAY);
    (begin, begin.saturating_add(i64::from(today.days_in_month()) * DAY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn limits_are_read_and_shown() {
        for text in ["5/s", "100/min", "1000000/s per tool", "5/min per server"] {
            assert_eq!(Limit::rate(text).unwrap().to_string(), text);
        }
        for text in ["50/hour", "200/day per server", "10000/month per tool", "1000000000000/month"] {
            assert_eq!(Limit::quota(text).unwrap().to_string(), text);
        }
        let limit = Limit::rate("  0005/min   per  tool ").unwrap();
        assert_eq!(limit, Limit { kind: LimitKind::Rate, calls: 5, period: Period::Minute, per: Per::Tool });
    }

    #[test]
    fn what_is_no_limit_is_refused_with_what_to_write() {
        let rate = |text: &str| Limit::rate(text).unwrap_err().to_string();
        let quota = |text: &str| Limit::quota(text).unwrap_err().to_string();
        assert_eq!(
            rate("5 a second"),
            "\"5 a second\" is no rate; write one such as 5/s, 100/min or 5/s per tool"
        );
        assert_eq!(
            quota("lots"),
            "\"lots\" is no quota; write one such as 50/hour, 200/day per server or 10000/month per tool"
        );
        assert_eq!(
            rate("5/hour"),
            "\"5/hour\" is a quota, not a rate; write it among the quotas, or one such as 5/s, 100/min or 5/s per tool"
        );
        assert_eq!(
            quota("5/s per tool"),
            "\"5/s per tool\" is a rate, not a quota; write it among the rates, or one such as 50/hour, 200/day per server or \
             10000/month per tool"
        );
        let zero = |text: &str| {
            format!("\"{text}\" allows no call at all; write at least 1, or revoke what should not be used")
        };
        assert_eq!((rate("0/s"), quota("000/month")), (zero("0/s"), zero("000/month")));
        assert_eq!(
            rate("18446744073709551616/s"),
            "\"18446744073709551616/s\" is more than a rate can be; write at most 1000000, or leave it out"
        );
        assert_eq!(
            quota("1000000000001/day"),
            "\"1000000000001/day\" is more than a quota can be; write at most 1000000000000, or leave it out"
        );
        for text in [
            "",
            "/",
            "5/",
            "/s",
            "5",
            "-5/s",
            "+5/s",
            "5.5/s",
            "1e3/s",
            "1_000/s",
            "1,000/s",
            "5/sec",
            "5/S",
            "5/s per",
            "5/s per prompt",
            "5/s per tool per server",
            "5/s/s",
            "５/s",
            "5 /s",
        ] {
            assert!(Limit::rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn periods_are_those_of_the_calendar_of_utc() {
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_second();
        for (period, now, begin, end) in [
            (Period::Hour, "2026-11-30T14:59:59Z", "2026-11-30T14:00:00Z", "2026-11-30T15:00:00Z"),
            (Period::Day, "2026-11-30T23:59:59Z", "2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z"),
            (Period::Month, "2026-11-30T23:59:59Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            (Period::Month, "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            (Period::Month, "2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z"),
            (Period::Month, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            (Period::Month, "1969-12-31T23:59:59Z", "1969-12-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(period.bounds(at(now)), (at(begin), at(end)), "{period} of {now}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail(text in "\\PC{0,80}|[0-9]{0,25}/(s|min|hour|day|month)( per (tool|server))?") {
            for limit in [Limit::rate(&text), Limit::quota(&text)].into_iter().flatten() {
                let read = match limit.kind {
                    LimitKind::Rate => Limit::rate(&limit.to_string()),
                    LimitKind::Quota => Limit::quota(&limit.to_string()),
                };
                prop_assert_eq!(read, Ok(limit));
            }
        }

        #[test]
        fn a_time_is_in_its_period(now in -60_000_000_000..250_000_000_000i64) {
            for period in [Period::Second, Period::Minute, Period::Hour, Period::Day, Period::Month] {
                let (begin, end) = period.bounds(now);
                prop_assert!(begin <= now && now < end);
                prop_assert_eq!(period.bounds(begin), (begin, end));
                prop_assert_eq!(period.bounds(end - 1), (begin, end));
                prop_assert_eq!(period.bounds(end).0, end);
            }
        }

        #[test]
        fn no_time_makes_it_fail(now in any::<i64>()) {
            for period in [Period::Second, Period::Minute, Period::Hour, Period::Day, Period::Month] {
                let _ = period.bounds(now);
            }
        }
    }
}
