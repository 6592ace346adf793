//! Parsers for values on the command line: durations, pairs, points in time. Pure.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Parses a duration such as `500ms`, `30s`, `5m`, `2h` or `90d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| duration_hint(text))?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(duration_hint(text)),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| duration_hint(text))
}

fn duration_hint(text: &str) -> String {
    format!("{text:?} is not a duration; use a number and a unit, such as 500ms, 30s, 5m, 2h or 90d")
}

/// Formats a duration as in proto-JSON.
pub fn proto_duration(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        millis => format!("{}.{millis:03}s", duration.as_secs()),
    }
}

/// Parses `KEY=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

/// Parses `KEY=VALUE`, or `KEY-` for one that is to be taken out.
pub fn pair_or_removal(text: &str) -> Result<(String, Option<String>), String> {
    match (text.split_once('='), text.strip_suffix('-')) {
        (None, Some(key)) if !key.is_empty() => Ok((key.to_owned(), None)),
        _ => pair(text).map(|(key, value)| (key, Some(value))),
    }
}

/// The end of a token's validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// After this time from now.
    After(Duration),
    /// At a point in time.
    At(OffsetDateTime),
}

/// Parses `never`, a duration from now, or a point in time (RFC 3339).
pub fn expiry(text: &str) -> Result<Expiry, String> {
    if text == "never" {
        return Ok(Expiry::Never);
    }
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(Expiry::At(at));
    }
    duration(text).map(Expiry::After).map_err(|_| {
        format!(
            "{text:?} is not a time; use never, a duration such as 90d, or a time such as 2027-01-31T12:00:00Z"
        )
    })
}

impl Expiry {
    /// Formats the end as in proto-JSON; `None` for `never`.
    pub fn timestamp(self, now: OffsetDateTime) -> Option<String> {
        let at = match self {
            Self::Never => return None,
            Self::After(duration) => now.checked_add(time::Duration::try_from(duration).ok()?)?,
            Self::At(at) => at,
        };
        at.format(&Rfc3339).ok()
    }
}

/// Formats a duration for people: `12s`, `5m`, `3h`, `8d`.
pub fn short_duration(duration: time::Duration) -> String {
    let seconds = duration.whole_seconds().unsigned_abs();
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("90d"), Ok(Duration::from_secs(90 * 86_400)));
        for wrong in ["", "5", "d", "5 d", "-5s", "5w", "99999999999999999999d", "18446744073709551615d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(proto_duration(Duration::from_millis(1_500)), "1.500s");
        assert_eq!(proto_duration(Duration::from_secs(60)), "60s");
    }

    #[test]
    fn expiries() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        assert_eq!(expiry("never").unwrap().timestamp(now), None);
        assert_eq!(expiry("1d").unwrap().timestamp(now).unwrap(), "2027-01-16T08:00:00Z");
        assert_eq!(expiry("2027-01-31T12:00:00Z").unwrap().timestamp(now).unwrap(), "2027-01-31T12:00:00Z");
        assert!(expiry("soon").is_err());
    }

    #[test]
    fn pairs_keep_everything_after_the_first_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }

    #[test]
    fn ages() {
        assert_eq!(short_duration(time::Duration::seconds(119)), "119s");
        assert_eq!(short_duration(time::Duration::hours(3)), "3h");
        assert_eq!(short_duration(time::Duration::days(8)), "8d");
    }
}
