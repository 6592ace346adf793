//! What an update changed, field by field. Pure.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::DynamicMessage;
use serde_json::Value;

use crate::kinds::{Kind, is_observed};
use crate::parse;
use crate::reflection;

/// The longest value that is written out.
const MAX_VALUE: usize = 60;

/// More changes than this are counted.
const MAX_CHANGES: usize = 20;

/// Tells whether a secret is another one.
const CREDENTIAL_VERSION: &str = "credential.version";

/// Lists the fields in which two states of a resource differ, such as `title: Old -> New`.
pub fn changes(kind: &Kind, before: &DynamicMessage, after: &DynamicMessage) -> Vec<String> {
    first_changes(kind, before, after, MAX_CHANGES)
}

/// The same with so many lines, and one that counts the others.
pub fn first_changes(
    kind: &Kind,
    before: &DynamicMessage,
    after: &DynamicMessage,
    max: usize,
) -> Vec<String> {
    let [before, after] = [before, after].map(|message| {
        let mut fields = BTreeMap::new();
        flatten(kind, &reflection::to_plain_json(message), "", &mut fields);
        fields
    });
    let removed = removed_rules(&before, &after);
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let paths = paths.into_iter().filter(|path| !rule_id(path).is_some_and(|id| removed.contains(id)));
    let changed = paths.filter(|path| before.get(*path) != after.get(*path));
    // A credential that is new or gone says so itself.
    let is_said = |path: &&String| before.contains_key(*path) && after.contains_key(*path);
    let changed = changed.filter(|path| path.as_str() != CREDENTIAL_VERSION || is_said(path));
    let mut lines: Vec<_> = changed.map(|path| line(path, before.get(path), after.get(path))).collect();
    if lines.len() > max {
        let rest = lines.split_off(max);
        lines.push(format!("and {} more", rest.len()));
    }
    // What protected something and goes is named, however much else there is to tell.
    if !removed.is_empty() {
        let ids: Vec<_> = removed.iter().copied().collect();
        lines.insert(0, printable::line(&format!("rules: {} (removed)", ids.join(", "))).into_owned());
    }
    lines
}

/// The ids of the rules that are there no more.
fn removed_rules<'a>(
    before: &'a BTreeMap<String, String>,
    after: &'a BTreeMap<String, String>,
) -> BTreeSet<&'a str> {
    let ids = |fields: &'a BTreeMap<String, String>| -> BTreeSet<&'a str> {
        fields.keys().filter_map(|path| rule_id(path)).collect()
    };
    &ids(before) - &ids(after)
}

/// The id of the rule that a path is below.
fn rule_id(path: &str) -> Option<&str> {
    path.strip_prefix("rules[")?.split_once(']').map(|(id, _)| id)
}

fn line(path: &str, before: Option<&String>, after: Option<&String>) -> String {
    let shown_time = |text: &String| match path.ends_with("Time") {
        true => parse::to_the_second(text),
        false => text.clone(),
    };
    let (before, after) = (before.map(shown_time), after.map(shown_time));
    // Of a secret nothing can be read but that it is there.
    let shown = |value: &str| match value.is_empty() && path.starts_with("credential.") {
        true => "a secret".to_owned(),
        false => short(value),
    };
    let text = match (before, after) {
        (Some(_), Some(_)) if path == CREDENTIAL_VERSION => return "credential: another secret".to_owned(),
        (Some(before), Some(after)) => format!("{} -> {}", short(&before), short(&after)),
        (_, Some(after)) => format!("{} (new)", shown(&after)),
        (before, None) => format!("{} (removed)", shown(&before.unwrap_or_default())),
    };
    printable::line(&format!("{path}: {text}")).into_owned()
}

/// Collects the values that somebody wrote, by their paths.
fn flatten(kind: &Kind, value: &Value, path: &str, fields: &mut BTreeMap<String, String>) {
    if is_observed(kind, path) && path != CREDENTIAL_VERSION || path == "name" {
        return;
    }
    let separator = if path.is_empty() { "" } else { "." };
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                flatten(kind, value, &format!("{path}{separator}{key}"), fields);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                // Rules have no order: one that goes makes no others of those after it.
                let id = value["id"].as_str().filter(|_| path == "rules");
                let place = id.map_or_else(|| index.to_string(), str::to_owned);
                flatten(kind, value, &format!("{path}[{place}]"), fields);
            }
        }
        Value::String(text) => drop(fields.insert(path.to_owned(), text.clone())),
        other => drop(fields.insert(path.to_owned(), other.to_string())),
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None if text.is_empty() => "\"\"".to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(kind: &str, before: Value, after: Value) -> Vec<String> {
        let kind = Kind::from_word(kind);
        let read = |json| reflection::from_json(reflection::message(kind.message), json).unwrap();
        changes(kind, &read(before), &read(after))
    }

    #[test]
    fn only_what_somebody_wrote_is_a_change() {
        let before = json!({"name": "upstreams/a", "title": "Old", "http": {"url": "http://a"},
            "meta": {"revision": 1, "labels": {"team": "core", "x": "1"}},
            "credential": {"bearer": {}, "version": "1"}, "status": {"toolCount": 1}});
        let after = json!({"name": "upstreams/a", "title": "New\u{1b}[2J", "http": {"url": "http://a"},
            "meta": {"revision": 2, "labels": {"team": "core", "y": "1"}}, "disabled": true,
            "credential": {"bearer": {}, "version": "2"}, "status": {"toolCount": 2}});
        assert_eq!(
            check("upstream", before.clone(), after),
            [
                "credential: another secret",
                "disabled: true (new)",
                "meta.labels.x: 1 (removed)",
                "meta.labels.y: 1 (new)",
                "title: Old -> New\\u{1b}[2J",
            ]
        );
        assert_eq!(check("upstream", before.clone(), before), Vec::<String>::new());
    }

    #[test]
    fn a_header_that_is_new_or_gone_is_named() {
        let upstream = |name: &str, version: &str| json!({"name": "upstreams/a", "credential": {"headers": {"headers": {name: ""}}, "version": version}});
        assert_eq!(
            check("upstream", upstream("X-A", "1"), upstream("X-B", "2")),
            [
                "credential.headers.headers.X-A: a secret (removed)",
                "credential.headers.headers.X-B: a secret (new)",
                "credential: another secret",
            ]
        );
    }

    /// The ids of rules that go are told before all else, and never counted with what is left out.
    #[test]
    fn rules_are_compared_by_their_ids_and_those_that_go_are_named() {
        let rule = |id: &str, when: &str| json!({"id": id, "effect": "RULE_EFFECT_DENY", "when": when});
        let server =
            |title: &str, rules: Vec<Value>| json!({"name": "servers/a", "title": title, "rules": rules});
        let rules = || vec![rule("no-etc", "a"), rule("masks", "b"), rule("deletes", "c")];
        let [before, after] =
            [server("Old", rules()), server("New", vec![rule("masks", "d"), rule("new", "e")])];
        let told = check("server", before.clone(), after.clone());
        assert_eq!(told[0], "rules: deletes, no-etc (removed)");
        assert!(told.contains(&"rules[masks].when: b -> d".to_owned()), "{told:?}");
        assert!(told.contains(&"rules[new].when: e (new)".to_owned()), "{told:?}");
        assert!(told.iter().skip(1).all(|line| !line.contains("no-etc")), "{told:?}");
        let kind = Kind::from_word("server");
        let read = |json| reflection::from_json(reflection::message(kind.message), json).unwrap();
        let first = first_changes(kind, &read(before), &read(after), 1);
        assert_eq!((first.len(), first[0].as_str()), (3, "rules: deletes, no-etc (removed)"));
    }

    #[test]
    fn lists_are_compared_by_place_and_long_ones_counted() {
        let server = |names: &[String]| {
            let members: Vec<_> = names.iter().map(|name| json!({ "match": name })).collect();
            json!({ "name": "servers/a", "tools": members })
        };
        let short = [server(&["a/*".into()]), server(&["a/*".into(), "b/*".into()])];
        let [one, two] = short;
        assert_eq!(check("server", one.clone(), two), ["tools[1].match: b/* (new)"]);
        let many: Vec<String> = (0..30).map(|number| format!("n{number}/*")).collect();
        let listed = check("server", one, server(&many));
        assert_eq!((listed.len(), listed.last().unwrap().as_str()), (21, "and 10 more"));
    }
}
