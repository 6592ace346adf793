//! What the members of a definition may be, and what is done about those that are something else. It must not know which
//! definitions have which members.

use super::{Members, is_text};
use crate::json;

/// A member of an object.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// Without it, what it is a member of does not fit.
    pub(super) is_required: bool,
}

impl Field {
    pub(super) const fn required(name: &'static str, shape: Shape) -> Self {
        Self { name, shape, is_required: true }
    }

    pub(super) const fn optional(name: &'static str, shape: Shape) -> Self {
        Self { name, shape, is_required: false }
    }
}

/// What a value must be.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Text,
    Flag,
    Integer,
    /// A number from 0 to 1.
    Share,
    /// A date and time with a zone (ISO 8601).
    Moment,
    OneOf(&'static [&'static str]),
    /// An object of anything.
    Object,
    Struct(&'static [Field]),
    List(&'static Shape),
    Uri,
    /// The name of what has the URI in this member.
    Name {
        uri: &'static str,
    },
    InputSchema,
    OutputSchema,
}

/// What is done about a member, and why.
pub(super) enum Mend {
    Fits,
    /// This value, raw, is listed in its place.
    Put(String, &'static str),
    LeaveOut(&'static str),
    Withhold(&'static str),
}

const PARTS: &str = "has parts of wrong types: they are left out";

impl Shape {
    /// What is done about `raw`, which is there.
    pub(super) fn mend(self, raw: &str) -> Mend {
        if raw == "null" {
            return Mend::LeaveOut("is null: it is left out");
        }
        let (fits, otherwise) = match self {
            Self::Text | Self::Uri | Self::Name { .. } => (is_text(raw), "is no text: it is left out"),
            Self::Flag => (matches!(raw, "true" | "false"), "is not true or false: it is left out"),
            Self::Share => {
                (is_number(raw, |n| (0.0..=1.0).contains(&n)), "is not from 0 to 1: it is left out")
            }
            Self::Moment => (
                is_moment(&json::string(raw).unwrap_or_default()),
                "is no date and time with a zone: it is left out",
            ),
            Self::OneOf(words) => {
                let known = json::string(raw).is_ok_and(|text| words.contains(&&*text));
                (known, "is none of the words that may be there: it is left out")
            }
            Self::Object | Self::InputSchema | Self::OutputSchema => {
                (raw.starts_with('{'), "is no object: it is left out")
            }
            Self::Integer => return integer(raw),
            Self::Struct(fields) => return object(fields, raw),
            Self::List(element) => return list(*element, raw),
        };
        if fits { Mend::Fits } else { Mend::LeaveOut(otherwise) }
    }
}

fn object(fields: &[Field], raw: &str) -> Mend {
    if !raw.starts_with('{') {
        return Mend::LeaveOut("is no object: it is left out");
    }
    let Ok(members) = Members::read(raw) else {
        return Mend::LeaveOut("is no object: it is left out");
    };
    let mut edits = Vec::new();
    for field in fields {
        let Ok(value) = members.only(field.name) else {
            return Mend::LeaveOut("has a member twice: it is left out");
        };
        match value.map(|value| field.shape.mend(value)) {
            Some(Mend::Fits) => {}
            None if !field.is_required => {}
            Some(Mend::Put(value, _)) => edits.push((field.name, Some(value))),
            Some(_) if !field.is_required => edits.push((field.name, None)),
            _ => return Mend::LeaveOut("lacks a member: it is left out"),
        }
    }
    if edits.is_empty() {
        return Mend::Fits;
    }
    let edits: Vec<_> = edits.iter().map(|(member, value)| (*member, value.as_deref())).collect();
    json::set_members(raw, &edits)
        .map_or(Mend::LeaveOut("is no object: it is left out"), |mended| Mend::Put(mended, PARTS))
}

/// A list without the elements that do not fit.
pub(super) fn list(element: Shape, raw: &str) -> Mend {
    let (mut kept, mut fits) = (Vec::new(), true);
    let read = json::each_element(raw, |value| {
        match element.mend(value) {
            Mend::Fits => kept.push(value.to_owned()),
            Mend::Put(mended, _) => {
                kept.push(mended);
                fits = false;
            }
            Mend::LeaveOut(_) | Mend::Withhold(_) => fits = false,
        }
        Ok::<(), json::JsonError>(())
    });
    match read {
        Err(_) => Mend::LeaveOut("is no list: it is left out"),
        Ok(()) if fits => Mend::Fits,
        Ok(()) => Mend::Put(format!("[{}]", kept.join(",")), PARTS),
    }
}

/// An integer, also one that is written as a text.
fn integer(raw: &str) -> Mend {
    // Past 2^53 no two SDKs read the same number, and some read none.
    if is_number(raw, |number| number.fract() == 0.0 && number.abs() <= 2_f64.powi(53)) {
        return Mend::Fits;
    }
    match json::string(raw) {
        Ok(digits) if (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) => {
            let value = digits.trim_start_matches('0');
            let value = if value.is_empty() { "0" } else { value };
            Mend::Put(value.to_owned(), "is a text: its number is listed")
        }
        _ => Mend::LeaveOut("is no whole number: it is left out"),
    }
}

fn is_number(raw: &str, fits: impl FnOnce(f64) -> bool) -> bool {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) && raw.parse().is_ok_and(fits)
}

/// `2026-11-29T14:00:00[.5](Z|+01:00)`, with a day that there is.
fn is_moment(text: &str) -> bool {
    let Some((date, time)) = text.split_once('T') else { return false };
    let Some(time) = time.strip_suffix('Z').or_else(|| without_zone(time)) else { return false };
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let parts: Vec<&str> = time.split(':').collect();
    let [hours, minutes, seconds] = *parts else { return false };
    let is_time = is_number_to(23, hours) && is_number_to(59, minutes) && is_number_to(59, seconds);
    is_time && !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit()) && is_date(date)
}

/// The time before a zone such as `+01:00`.
fn without_zone(time: &str) -> Option<&str> {
    let (time, zone) = time.split_at_checked(time.len().checked_sub(6)?)?;
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    (is_number_to(23, hours) && is_number_to(59, minutes)).then_some(time)
}

/// Two digits that are at most `last`.
fn is_number_to(last: u32, text: &str) -> bool {
    let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    digits && text.parse::<u32>().is_ok_and(|number| number <= last)
}

/// `2026-11-29`.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shaped = bytes.len() == 10
        && bytes
            .iter()
            .enumerate()
            .all(|(at, b)| if matches!(at, 4 | 7) { *b == b'-' } else { b.is_ascii_digit() });
    if !shaped {
        return false;
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<u32>().unwrap_or_default();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}
