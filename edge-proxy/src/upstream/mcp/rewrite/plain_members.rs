//! Members of which the protocol says what they hold: numbers, a few words, times, ids. A value of another kind may say anything, whatever
//! its member is called. It must not know what is masked.

/// What a member holds.
enum Plain {
    Flag,
    Number,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A time of RFC 3339.
    Time,
    /// A string or a number by which something is found again.
    Id,
}

/// Whether a raw value is what the protocol says of the member of a result, of a task or of a notification; `false` for all other members.
pub(super) fn is_plain(name: &str, raw: &str) -> bool {
    let kind = match name {
        "isError" => Plain::Flag,
        "progress" | "total" | "ttl" | "ttlMs" | "pollInterval" | "pollIntervalMs" => Plain::Number,
        "resultType" => Plain::Word(&["complete", "input_required", "task"]),
        "status" => Plain::Word(&["working", "input_required", "completed", "failed", "cancelled"]),
        "cacheScope" => Plain::Word(&["public", "private"]),
        "createdAt" | "lastUpdatedAt" => Plain::Time,
        // The edge puts its own in the place of the upstream's, or knows it already.
        "taskId" | "requestState" | "progressToken" | "requestId" | "elicitationId" => Plain::Id,
        _ => return false,
    };
    kind.is_of(raw)
}

/// Whether a raw value is what annotations of content hold in a member.
pub(super) fn is_annotation(name: &str, raw: &str) -> bool {
    match name {
        "audience" => is_audience(raw),
        "priority" => Plain::Number.is_of(raw),
        "lastModified" => Plain::Time.is_of(raw),
        _ => false,
    }
}

fn is_audience(raw: &str) -> bool {
    let Some(inner) = raw.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return false };
    inner.is_empty() || inner.split(',').all(|word| Plain::Word(&["user", "assistant"]).is_of(word.trim()))
}

impl Plain {
    fn is_of(&self, raw: &str) -> bool {
        let text = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match self {
            Self::Flag => matches!(raw, "true" | "false"),
            Self::Number => {
                raw == "null" || raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
            }
            Self::Word(words) => text.is_some_and(|text| words.contains(&text)),
            Self::Time => text.is_some_and(is_time),
            Self::Id => !raw.starts_with(['{', '[']),
        }
    }
}

/// Whether a text has the form of RFC 3339, such as `2026-07-28T12:00:00.5Z`.
fn is_time(text: &str) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let Some((start, rest)) = text.as_bytes().split_at_checked(FORM.len()) else { return false };
    let is_sign = |(is, form): (&u8, &u8)| {
        if *form == b'0' { is.is_ascii_digit() } else { is.eq_ignore_ascii_case(form) }
    };
    let digits = rest.iter().skip(1).take_while(|is| is.is_ascii_digit()).count();
    let zone = match rest {
        [b'.', rest @ ..] if (1..=9).contains(&digits) => &rest[digits..],
        rest => rest,
    };
    start.iter().zip(FORM).all(is_sign) && is_zone(zone)
}

/// Whether it is `Z`, or an offset such as `+02:00`.
fn is_zone(zone: &[u8]) -> bool {
    match zone {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', hours @ .., b':', m, n] => {
            hours.len() == 2 && hours.iter().chain([m, n]).all(u8::is_ascii_digit)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_holds_what_the_protocol_says_of_it_and_nothing_else() {
        for (name, good, bad) in [
            ("isError", r"true", r#""ann@x""#),
            ("progress", "-0.50", r#""ann@x""#),
            ("ttl", "null", r#""60""#),
            ("total", "3", "true"),
            ("resultType", r#""input_required""#, r#""ann@x""#),
            ("status", r#""completed""#, r#""complete""#),
            ("cacheScope", r#""private""#, r#"{"a":1}"#),
            ("createdAt", r#""2026-07-28T12:00:00Z""#, r#""2026-07-28""#),
            ("createdAt", r#""2026-07-28t12:00:00.123456789+02:00""#, r#""2026-07-28T12:00:00.Z""#),
            ("lastUpdatedAt", r#""2026-07-28T12:00:00-11:30""#, r#""2026-07-28T12:00:00Z ann@x""#),
            ("lastUpdatedAt", r#""2026-07-28T12:00:00.5z""#, r#""2026-07-28T12:00:00.1234567890Z""#),
            ("taskId", r#""t""#, r#"{"email":"ann@x"}"#),
        ] {
            assert!(is_plain(name, good), "{name}: {good}");
            assert!(!is_plain(name, bad), "{name}: {bad}");
        }
        assert!(!is_plain("nextCursor", r#""x""#) && !is_plain("email", "1"));
        for (name, good, bad) in [
            ("audience", r#"["user", "assistant"]"#, r#"["ann@x"]"#),
            ("audience", "[]", r#"["user",]"#),
            ("priority", "0.5", r#""ann@x""#),
            ("lastModified", r#""2025-01-12T15:00:58Z""#, r#""yesterday""#),
        ] {
            assert!(is_annotation(name, good), "{name}: {good}");
            assert!(!is_annotation(name, bad), "{name}: {bad}");
        }
        assert!(!is_annotation("title", "1"));
    }
}
