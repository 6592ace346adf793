//! The order of `--sort-by`: numbers as numbers, times as times, and what has no such field first. Pure.

use std::cmp::Ordering;

use prost_reflect::DynamicMessage;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::path::{FieldPath, text};
use crate::reflection;

#[derive(Debug)]
enum SortKey {
    Nothing,
    Number(f64),
    Time(OffsetDateTime),
    Text(String),
}

/// Sorts resources by a field. Those with the same value stay as they were.
pub fn sort(items: &mut [DynamicMessage], path: &FieldPath) {
    items.sort_by_cached_key(|item| SortKey::of(path, &reflection::to_json(item)));
}

impl SortKey {
    fn of(path: &FieldPath, item: &Value) -> Self {
        match path.values(item, item).first() {
            None | Some(Value::Null) => Self::Nothing,
            Some(Value::Bool(flag)) => Self::Number(f64::from(u8::from(*flag))),
            Some(value) => Self::of_text(text(value)),
        }
    }

    /// In proto-JSON, 64-bit integers, times and durations are strings.
    fn of_text(text: String) -> Self {
        if let Ok(time) = OffsetDateTime::parse(&text, &Rfc3339) {
            return Self::Time(time);
        }
        match text.strip_suffix('s').unwrap_or(&text).parse::<f64>() {
            Ok(number) if number.is_finite() => Self::Number(number),
            _ => Self::Text(text),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Number(_) => 1,
            Self::Time(_) => 2,
            Self::Text(_) => 3,
        }
    }
}

impl Ord for SortKey {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Time(a), Self::Time(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for SortKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SortKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for SortKey {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(path: &str, items: Value, expected: &[&str]) {
        let read = |item: &Value| {
            reflection::from_json(reflection::message("trunkline.registry.v1.Upstream"), item.clone())
                .unwrap()
        };
        let mut items: Vec<_> = items.as_array().unwrap().iter().map(read).collect();
        sort(&mut items, &FieldPath::parse(path).unwrap());
        let names: Vec<_> = items.iter().map(|item| reflection::text(item, "name")).collect();
        assert_eq!(names, expected, "{path}");
    }

    #[test]
    fn values_are_compared_as_what_they_are() {
        let items = json!([
            {"name": "c", "meta": {"revision": "9", "createTime": "2027-01-15T05:00:00Z"}, "requestTimeout": "100s"},
            {"name": "a", "meta": {"revision": "10", "createTime": "2027-01-15T04:30:00Z"}, "requestTimeout": "9.5s"},
            {"name": "b", "disabled": true},
        ]);
        check("name", items.clone(), &["a", "b", "c"]);
        check(".meta.revision", items.clone(), &["b", "c", "a"]);
        check(".meta.create_time", items.clone(), &["b", "a", "c"]);
        check(".requestTimeout", items.clone(), &["b", "a", "c"]);
        check(".disabled", items.clone(), &["c", "a", "b"]);
        check(".nothing", items, &["c", "a", "b"]);
    }
}
