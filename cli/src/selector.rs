//! Selectors of labels as in Kubernetes: `team=core,env!=x,!y,k in (a,b)`. Pure: they become the filter of a list, or are
//! held against the labels of what has no filter.

use std::collections::BTreeMap;

/// Conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Condition>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Present,
    Absent,
    OneOf(Vec<String>),
    /// What has no such label passes.
    NoneOf(Vec<String>),
}

impl Selector {
    /// Reads a selector.
    pub fn parse(text: &str) -> Result<Self, String> {
        let conditions: Result<Vec<_>, _> = split(text).into_iter().map(condition).collect();
        let conditions = conditions?;
        match conditions.is_empty() {
            true => Err("is empty; use a label such as team=core".to_owned()),
            false => Ok(Self(conditions)),
        }
    }

    /// Writes it as the filter of a list.
    pub fn filter(&self) -> String {
        self.0.iter().map(Condition::filter).collect::<Vec<_>>().join(" AND ")
    }

    /// Whether labels pass.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|condition| condition.holds(labels.get(&condition.key)))
    }
}

impl Condition {
    fn filter(&self) -> String {
        let key = quote(&self.key);
        let each = |comparator: &str, values: &[String], joined: &str| {
            let one = |value: &String| format!("meta.labels.{key} {comparator} {}", quote(value));
            format!("({})", values.iter().map(one).collect::<Vec<_>>().join(joined))
        };
        match &self.test {
            Test::Present => format!("meta.labels:{key}"),
            Test::Absent => format!("NOT meta.labels:{key}"),
            Test::OneOf(values) => each("=", values, " OR "),
            Test::NoneOf(values) => each("!=", values, " AND "),
        }
    }

    fn holds(&self, label: Option<&String>) -> bool {
        match &self.test {
            Test::Present => label.is_some(),
            Test::Absent => label.is_none(),
            Test::OneOf(values) => label.is_some_and(|label| values.contains(label)),
            Test::NoneOf(values) => label.is_none_or(|label| !values.contains(label)),
        }
    }
}

/// Splits at the commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth <= 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    if parts.iter().all(|part| part.trim().is_empty()) { Vec::new() } else { parts }
}

fn condition(text: &str) -> Result<Condition, String> {
    let text = text.trim();
    if let Some((key, test)) = set(text) {
        return Ok(Condition { key: key_of(key, text)?, test: test? });
    }
    let one = |value: &str| vec![value.trim().to_owned()];
    let (key, test) = if let Some((key, value)) = text.split_once("!=") {
        (key, Test::NoneOf(one(value)))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Test::OneOf(one(value)))
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Test::Absent)
    } else {
        (text, Test::Present)
    };
    Ok(Condition { key: key_of(key, text)?, test })
}

/// Reads `KEY in (A,B)` and `KEY notin (A,B)`.
fn set(text: &str) -> Option<(&str, Result<Test, String>)> {
    let (key, rest) = text.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (negated, list) = match rest.strip_prefix("notin") {
        Some(list) => (true, list),
        None => (false, rest.strip_prefix("in")?),
    };
    let list = list.trim();
    let Some(inner) = list.strip_prefix('(').and_then(|list| list.strip_suffix(')')) else {
        return Some((key, Err(format!("{text:?} has no values; use KEY in (VALUE,VALUE)"))));
    };
    let values = inner.split(',').map(|value| value.trim().to_owned()).collect();
    Some((key, Ok(if negated { Test::NoneOf(values) } else { Test::OneOf(values) })))
}

fn key_of(key: &str, text: &str) -> Result<String, String> {
    let key = key.trim();
    let is_odd = |c: char| c.is_whitespace() || "()=!<>,".contains(c);
    match key.is_empty() || key.contains(is_odd) {
        true => Err(format!(
            "{text:?} is no condition; use KEY=VALUE, KEY!=VALUE, KEY, !KEY, KEY in (A,B) or KEY notin (A,B)"
        )),
        false => Ok(key.to_owned()),
    }
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, filter: &str) {
        assert_eq!(Selector::parse(text).unwrap().filter(), filter, "{text}");
    }

    #[test]
    fn a_selector_becomes_a_filter() {
        check("team=core", r#"(meta.labels."team" = "core")"#);
        check("team==core", r#"(meta.labels."team" = "core")"#);
        check(
            " team = core , env!=x,!y,z",
            r#"(meta.labels."team" = "core") AND (meta.labels."env" != "x") AND NOT meta.labels:"y" AND meta.labels:"z""#,
        );
        check("k in (a, b)", r#"(meta.labels."k" = "a" OR meta.labels."k" = "b")"#);
        check("k notin (a,b)", r#"(meta.labels."k" != "a" AND meta.labels."k" != "b")"#);
        check("example.com/a=", r#"(meta.labels."example.com/a" = "")"#);
        check(r#"a="b\"#, r#"(meta.labels."a" = "\"b\\")"#);
    }

    #[test]
    fn labels_are_held_against_it() {
        let labels =
            BTreeMap::from([("team", "core"), ("env", "a")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        for (text, expected) in [
            ("team=core", true),
            ("team=core,env=b", false),
            ("env in (a,b)", true),
            ("env notin (a)", false),
            ("other!=x", true),
            ("other=x", false),
            ("!other,team", true),
            ("!team", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&labels), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_said() {
        for text in ["", ",", "=x", "a b", "a in b", "a in (b", "!", "a>1", "a,,b"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }
}
