//! What protects a resource, and what is open once that is gone: the conditions of a token, and the credential of an upstream. Pure.

use serde_json::Value;

use crate::parse::to_the_second;

/// The conditions of a token, and how it may be used without each.
const CONDITIONS: [(&str, &str); 5] = [
    ("from", "from everywhere"),
    ("windows", "at any time"),
    ("methods", "for every method"),
    ("rates", "without a rate"),
    ("quotas", "without a quota"),
];
/// The one that is no list.
const BEGIN: &str = "notBefore";

/// The conditions that a token has no more.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fallen {
    /// What they said, such as `conditions.from: 10.0.0.0/8`.
    pub lines: Vec<String>,
    /// How the token may be used then.
    ways: Vec<String>,
}

impl Fallen {
    /// Finds those of a token that are gone.
    pub fn of(token: &Value, is_gone: impl Fn(&str) -> bool) -> Self {
        let (conditions, mut fallen) = (&token["conditions"], Self::default());
        for (field, way) in CONDITIONS {
            let entries = conditions[field].as_array().map(Vec::as_slice).unwrap_or_default();
            if !entries.is_empty() && is_gone(field) {
                let said = entries.iter().filter_map(Value::as_str);
                fallen.lines.extend(said.map(|entry| format!("conditions.{field}: {entry}")));
                fallen.ways.push(way.to_owned());
            }
        }
        if let Some(begin) = conditions[BEGIN].as_str().filter(|_| is_gone(BEGIN)) {
            let begin = to_the_second(begin);
            fallen.lines.push(format!("conditions.{BEGIN}: {begin}"));
            fallen.ways.push(format!("before {begin}"));
        }
        fallen
    }

    /// Finds those that one state of a token has and the next has not.
    pub fn between(before: &Value, after: &Value) -> Self {
        Self::of(before, |field| is_nothing(&after["conditions"][field]))
    }

    /// Finds those that an update clears.
    pub fn cleared(before: &Value, body: &Value, mask: &[String]) -> Self {
        Self::of(before, |field| {
            let path = format!("conditions.{field}");
            let is_named = mask.iter().any(|named| *named == path || named == "conditions");
            is_named && is_nothing(&body["conditions"][field])
        })
    }

    /// How the token may be used then, in words; `None` where nothing has fallen.
    pub fn in_words(&self) -> Option<String> {
        (!self.ways.is_empty()).then(|| self.ways.join(", "))
    }
}

/// Where, when and for what alone a token may be used, in words such as `from 10.0.0.0/8, for tools/call`; `None`: no condition says that.
pub fn bounds(token: &Value) -> Option<String> {
    let conditions = &token["conditions"];
    let said =
        [("from", "from"), ("windows", "at"), ("methods", "for")].into_iter().filter_map(|(field, word)| {
            let entries = conditions[field].as_array().filter(|entries| !entries.is_empty())?;
            let entries: Vec<_> = entries.iter().filter_map(Value::as_str).collect();
            Some(format!("{word} {}", entries.join(" or ")))
        });
    let said: Vec<_> = said.collect();
    (!said.is_empty()).then(|| printable::line(&said.join(", ")).into_owned())
}

/// Whether an upstream has lost its credential.
pub fn has_lost_credential(before: &Value, after: &Value) -> bool {
    !before["credential"].is_null() && after["credential"].is_null()
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_that_goes_says_what_is_open_then() {
        let token = json!({ "conditions": { "from": ["10.0.0.0/8", "::1"], "windows": ["daily 08:00-18:00 UTC"], "rates": [],
            "notBefore": "2027-01-31T00:00:00Z" } });
        let none = Fallen::between(&token, &json!({}));
        assert_eq!(
            none.in_words().as_deref(),
            Some("from everywhere, at any time, before 2027-01-31T00:00:00Z")
        );
        assert_eq!(none.lines[..2], ["conditions.from: 10.0.0.0/8", "conditions.from: ::1"]);
        let narrower = json!({ "conditions": { "from": ["10.0.0.1"], "windows": ["daily 08:00-18:00 UTC"],
            "notBefore": "2027-01-31T00:00:00Z" } });
        assert_eq!(Fallen::between(&token, &narrower).in_words(), None);
    }

    #[test]
    fn where_a_token_is_good_is_told_in_words() {
        let token = json!({ "conditions": { "from": ["10.0.0.0/8", "::1"], "methods": ["tools/call"], "rates": ["5/s"] } });
        assert_eq!(bounds(&token).as_deref(), Some("from 10.0.0.0/8 or ::1, for tools/call"));
        assert_eq!(bounds(&json!({ "conditions": { "rates": ["5/s"] } })), None);
        assert_eq!(bounds(&json!({})), None);
    }

    #[test]
    fn an_update_clears_what_it_names_and_does_not_set() {
        let token = json!({ "conditions": { "from": ["10.0.0.0/8"], "quotas": ["5/hour"] } });
        let cleared = |body: Value, mask: &[&str]| {
            let mask: Vec<_> = mask.iter().map(|path| (*path).to_owned()).collect();
            Fallen::cleared(&token, &body, &mask).in_words().unwrap_or_default()
        };
        assert_eq!(cleared(json!({}), &["conditions"]), "from everywhere, without a quota");
        assert_eq!(cleared(json!({}), &["conditions.quotas", "title"]), "without a quota");
        assert_eq!(cleared(json!({"conditions": {"from": ["::1"]}}), &["conditions.from"]), "");
        assert_eq!(cleared(json!({}), &["title"]), "");
    }
}
