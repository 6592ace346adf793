//! Parsers for values on the command line: durations, pairs, points in time. Pure.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Parses a duration such as `500ms`, `30s`, `5m`, `2h`, `90d` or `2w`.
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
        "w" => 604_800_000,
        _ => return Err(duration_hint(text)),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| duration_hint(text))
}

fn duration_hint(text: &str) -> String {
    format!("{text:?} is not a duration; use a number and a unit, such as 500ms, 30s, 5m, 2h, 90d or 2w")
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

/// Parses a name that is written on command lines, such as that of a context.
pub fn word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('-') || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(
            "a name is not empty, has no blanks or control characters, and does not begin with -".into()
        );
    }
    Ok(text.to_owned())
}

/// Parses the id of a resource, as a control plane takes it.
pub fn id(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_id = text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.chars().all(is_allowed);
    if is_id {
        return Ok(text.to_owned());
    }
    Err("an id has lowercase letters, digits and hyphens, begins with a letter, ends with a letter or digit, and is at most 63 \
         characters long"
        .into())
}

/// Reads a name as tables show it: what does not print is written there as `\u{1b}`.
pub fn as_shown(text: &str) -> String {
    let (mut read, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("\\u{") {
        read.push_str(before);
        let escaped = after.split_once('}').and_then(|(hex, after)| {
            let shown = char::from_u32(u32::from_str_radix(hex, 16).ok()?)?;
            (printable::line(shown.encode_utf8(&mut [0; 4])) == format!("\\u{{{hex}}}"))
                .then_some((shown, after))
        });
        match escaped {
            Some((c, after)) => {
                read.push(c);
                rest = after;
            }
            None => {
                read.push_str("\\u{");
                rest = after;
            }
        }
    }
    read + rest
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

/// Parses `never`, a duration from now, a point in time (RFC 3339), or a day, which begins at midnight of UTC.
pub fn expiry(text: &str) -> Result<Expiry, String> {
    if text == "never" {
        return Ok(Expiry::Never);
    }
    let at = |text: &str| OffsetDateTime::parse(text, &Rfc3339).map(Expiry::At);
    if let Ok(at) = at(text).or_else(|_| at(&format!("{text}T00:00:00Z"))) {
        return Ok(at);
    }
    duration(text).map(Expiry::After).map_err(|_| {
        format!(
            "{text:?} is not a time; use never, a duration such as 90d, a time such as 2027-01-31T12:00:00Z, or a day such as \
             2027-01-31"
        )
    })
}

/// Parses the same, but for `never`.
pub fn moment(text: &str) -> Result<Expiry, String> {
    match expiry(text) {
        Ok(Expiry::Never) | Err(_) => Err(format!(
            "{text:?} is not a time; use a time such as 2027-01-31T12:00:00Z, a day such as 2027-01-31, or a duration such as 2h from now"
        )),
        moment => moment,
    }
}

impl Expiry {
    /// How long that is from now; nothing where it is over; `None` for `never`.
    pub fn lifetime(self, now: OffsetDateTime) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::After(duration) => Some(duration),
            Self::At(at) => Some((at - now).try_into().unwrap_or_default()),
        }
    }

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

/// Counts for people: `1 tool`, `2 tools`.
pub fn counted(count: impl TryInto<u64> + Copy, thing: &str) -> String {
    let count = count.try_into().unwrap_or_default();
    match (count, thing.strip_suffix('y')) {
        (1, _) => format!("1 {thing}"),
        (count, Some(stem)) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{count} {stem}ies"),
        (count, _) => format!("{count} {thing}s"),
    }
}

/// Formats a time to the second; what is no time stays as it is.
pub fn to_the_second(text: &str) -> String {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok().and_then(|time| time.replace_nanosecond(0).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| text.to_owned())
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
        assert_eq!(duration("2w"), duration("14d"));
        for wrong in ["", "5", "d", "5 d", "-5s", "5y", "99999999999999999999d", "18446744073709551615d"] {
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
        assert_eq!(expiry("2027-01-31"), moment("2027-01-31T00:00:00Z"));
        assert!(expiry("soon").is_err() && expiry("2027-02-31").is_err());
        assert_eq!(moment("2h").unwrap().timestamp(now).unwrap(), "2027-01-15T10:00:00Z");
        assert_eq!(moment("2027-01-31").unwrap().timestamp(now).unwrap(), "2027-01-31T00:00:00Z");
        assert_eq!(
            moment("2027-01-31T12:00:00+01:00").unwrap().timestamp(now).unwrap(),
            "2027-01-31T12:00:00+01:00"
        );
        for wrong in ["never", "soon", "2027-02-31", ""] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pairs_keep_everything_after_the_first_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }

    #[test]
    fn names_are_words() {
        assert_eq!(word("prod-1"), Ok("prod-1".to_owned()));
        for wrong in ["", "a b", "a\n", "\u{1b}[2J", "-o"] {
            assert!(word(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(id("time-2"), Ok("time-2".to_owned()));
        for wrong in ["", "Bad Name", "1a", "a-", "a_b", &"a".repeat(64)] {
            assert!(id(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_shown() {
        let name = "ev\u{1b}[2Jil\u{202e}é";
        assert_eq!(as_shown(&printable::line(name)), name);
        for plain in ["now", r"a\u{61}b", r"\u{", r"\u{zz}", r"C:\x", r"\u{1b"] {
            assert_eq!(as_shown(plain), plain);
        }
    }

    #[test]
    fn counts_and_times_are_for_people() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "tool")), ["0 tools", "1 tool", "2 tools"]);
        assert_eq!([1_usize, 2].map(|count| counted(count, "entry")), ["1 entry", "2 entries"]);
        assert_eq!(counted(29, "day"), "29 days");
        assert_eq!(to_the_second("2026-11-30T08:02:37.306972855Z"), "2026-11-30T08:02:37Z");
        assert_eq!(to_the_second("soon"), "soon");
    }

    #[test]
    fn ages() {
        assert_eq!(short_duration(time::Duration::seconds(119)), "119s");
        assert_eq!(short_duration(time::Duration::hours(3)), "3h");
        assert_eq!(short_duration(time::Duration::days(8)), "8d");
    }
}
