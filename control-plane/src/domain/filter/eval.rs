//! Evaluates a filter on a message.

use std::cmp::Ordering;

use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};
use schema::words;

use super::{Comparator, Expression, Step};

const TIMESTAMP: &str = "google.protobuf.Timestamp";
const DURATION: &str = "google.protobuf.Duration";

pub(super) fn holds(expression: &Expression, message: &DynamicMessage, texts: &[&str]) -> bool {
    match expression {
        Expression::All(parts) => parts.iter().all(|part| holds(part, message, texts)),
        Expression::Any(parts) => parts.iter().any(|part| holds(part, message, texts)),
        Expression::Not(part) => !holds(part, message, texts),
        Expression::Word(word) => texts.iter().any(|text| contains(text, word)),
        Expression::Compare { path, comparator: Comparator::NotEqual, value } => {
            !found(path, message, &|leaf| compare(leaf, path, Comparator::Equal, value))
        }
        Expression::Compare { path, comparator: Comparator::Has, value } if value == "*" => {
            is_set(path, message)
        }
        Expression::Compare { path, comparator, value } => {
            found(path, message, &|leaf| compare(leaf, path, *comparator, value))
        }
    }
}

/// Checks that a value can be compared with the field of a path. Violations are reported when the filter is parsed.
pub(super) fn check(path: &[Step], comparator: Comparator, value: &str) -> Result<(), String> {
    let Some(Step::Field(field)) = path.last() else { return Ok(()) };
    if comparator == Comparator::Has && value == "*" {
        return Ok(());
    }
    if field.is_map() {
        return if comparator == Comparator::Has {
            Ok(())
        } else {
            Err("is a map; name a key, as in `labels.team`".to_owned())
        };
    }
    let equality = matches!(comparator, Comparator::Equal | Comparator::NotEqual | Comparator::Has);
    match field.kind() {
        Kind::String => Ok(()),
        Kind::Bool if !equality => Err("is a boolean; only `=` and `!=` apply".to_owned()),
        Kind::Bool => value.parse::<bool>().map(drop).map_err(|_| format!("is a boolean, not `{value}`")),
        Kind::Enum(_) if !equality => Err("is an enum; only `=` and `!=` apply".to_owned()),
        Kind::Enum(of) => match words::value(&of, value) {
            Some(_) => Ok(()),
            None => Err(format!("must be {}, not `{value}`", words::one_of(&words::choices(&of)))),
        },
        Kind::Message(message) if message.full_name() == TIMESTAMP => time(value)
            .map(drop)
            .ok_or_else(|| format!("is a time such as 2026-11-20T08:00:00Z, not `{value}`")),
        Kind::Message(message) if message.full_name() == DURATION => {
            duration(value).map(drop).ok_or_else(|| format!("is a duration such as 90s, not `{value}`"))
        }
        Kind::Message(_) => Err("is a message; name one of its fields, or use `:*`".to_owned()),
        _ => value.parse::<f64>().map(drop).map_err(|_| format!("is a number, not `{value}`")),
    }
}

/// Tells whether a leaf that the path leads to passes the test.
fn found(path: &[Step], message: &DynamicMessage, test: &dyn Fn(&Value) -> bool) -> bool {
    let Some((Step::Field(field), rest)) = path.split_first() else { return false };
    // A message or optional field that is not set has no value; a plain one has its default.
    if field.supports_presence() && !message.has_field(field) {
        return false;
    }
    descend(&message.get_field(field), rest, test)
}

fn descend(value: &Value, rest: &[Step], test: &dyn Fn(&Value) -> bool) -> bool {
    match (value, rest) {
        (Value::List(values), _) => values.iter().any(|value| descend(value, rest, test)),
        (Value::Map(map), [Step::Key(key), ..]) => map.get(&MapKey::String(key.clone())).is_some_and(test),
        (_, []) => test(value),
        (Value::Message(message), rest) => found(rest, message, test),
        _ => false,
    }
}

fn is_set(path: &[Step], message: &DynamicMessage) -> bool {
    let set = |value: &Value| match value {
        Value::Map(map) => !map.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(flag) => *flag,
        Value::EnumNumber(number) | Value::I32(number) => *number != 0,
        Value::I64(number) => *number != 0,
        _ => true,
    };
    found(path, message, &set)
}

fn compare(leaf: &Value, path: &[Step], comparator: Comparator, value: &str) -> bool {
    let order = match leaf {
        Value::String(text) => return compare_text(text, comparator, value),
        Value::Map(map) => return map.contains_key(&MapKey::String(value.to_owned())),
        Value::EnumNumber(number) => return enum_is(path, *number, value),
        Value::Bool(flag) => value.parse().ok().map(|value: bool| flag.cmp(&value)),
        Value::I32(number) => order(f64::from(*number), value),
        // Revisions and counts are far below where an f64 rounds.
        #[expect(clippy::cast_precision_loss, reason = "compared with what a person wrote")]
        Value::I64(number) => order(*number as f64, value),
        Value::Message(message) if message.descriptor().full_name() == TIMESTAMP => message
            .transcode_to::<prost_types::Timestamp>()
            .ok()
            .zip(time(value))
            .map(|(found, wanted)| (found.seconds, found.nanos).cmp(&(wanted.seconds, wanted.nanos))),
        Value::Message(message) if message.descriptor().full_name() == DURATION => message
            .transcode_to::<prost_types::Duration>()
            .ok()
            .zip(duration(value))
            .map(|(found, wanted)| (found.seconds, found.nanos).cmp(&(wanted.seconds, wanted.nanos))),
        _ => None,
    };
    order.is_some_and(|order| fits(order, comparator))
}

fn compare_text(text: &str, comparator: Comparator, value: &str) -> bool {
    match comparator {
        Comparator::Has => contains(text, value),
        Comparator::Equal => glob::matches(value, text),
        _ => fits(text.cmp(value), comparator),
    }
}

fn fits(order: Ordering, comparator: Comparator) -> bool {
    match comparator {
        Comparator::Equal | Comparator::Has => order.is_eq(),
        Comparator::NotEqual => order.is_ne(),
        Comparator::Less => order.is_lt(),
        Comparator::LessOrEqual => order.is_le(),
        Comparator::Greater => order.is_gt(),
        Comparator::GreaterOrEqual => order.is_ge(),
    }
}

fn order(number: f64, value: &str) -> Option<Ordering> {
    value.parse().ok().and_then(|value: f64| number.partial_cmp(&value))
}

fn enum_is(path: &[Step], number: i32, value: &str) -> bool {
    let Some(Step::Field(field)) = path.last() else { return false };
    let Kind::Enum(of) = field.kind() else { return false };
    words::value(&of, value).is_some_and(|named| named.number() == number)
}

fn contains(text: &str, wanted: &str) -> bool {
    text.to_lowercase().contains(&wanted.to_lowercase())
}

fn time(value: &str) -> Option<prost_types::Timestamp> {
    value.parse().ok()
}

fn duration(value: &str) -> Option<prost_types::Duration> {
    value.parse().ok()
}
