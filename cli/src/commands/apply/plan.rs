//! What an apply does, or would do, in text. Pure.

use prost_reflect::DynamicMessage;

use crate::commands::changes::first_changes;
use crate::commands::difference::difference;
use crate::error::{Error, Result};
use crate::kinds::Kind;
use crate::reflection;

/// The lines about the fields of one resource.
const MAX_FIELDS: usize = 8;

/// The line of a change.
pub(super) fn line(change: &DynamicMessage) -> String {
    let (mut action, from) = (reflection::enum_word(change, "action"), previous_set(change));
    let sign = match action.as_str() {
        "created" => '+',
        "updated" => '~',
        "deleted" => '-',
        _ if from.is_some() => '~',
        _ => ' ',
    };
    if let Some(from) = from {
        let moved = format!("moved from set {from}");
        action = if action == "unchanged" { moved } else { format!("{action}, {moved}") };
    }
    format!("{sign} {}\n", printable::line(&format!("{} {action}", reflection::text(change, "name"))))
}

/// The fields that change of a resource that was there and stays.
pub(super) fn fields(change: &DynamicMessage) -> Vec<String> {
    let name = reflection::text(change, "name");
    let states = Kind::of_resource(&name).and_then(|kind| {
        let [before, after] = states(kind, change);
        Some((kind, before?, after?))
    });
    let Some((kind, before, after)) = states else { return Vec::new() };
    first_changes(kind, &before, &after, MAX_FIELDS)
}

/// A resource before and after a change, where it was and is there.
pub(super) fn states(kind: &Kind, change: &DynamicMessage) -> [Option<DynamicMessage>; 2] {
    ["before", "after"].map(|field| {
        let manifest = reflection::submessage(change, field)?;
        reflection::submessage(&manifest, kind.manifest.unwrap_or_default())
    })
}

/// Says that a resource moves from another set, if it does.
pub(super) fn moved(change: &DynamicMessage) -> Option<String> {
    Some(format!("{} moves from set {}", reflection::text(change, "name"), previous_set(change)?))
}

fn previous_set(change: &DynamicMessage) -> Option<String> {
    Some(reflection::text(change, "previous_set")).filter(|set| !set.is_empty())
}

/// Renders changes as unified diffs of YAML; empty if nothing changes.
pub(super) fn unified_diff(changes: &[DynamicMessage]) -> Result<String> {
    changes.iter().map(unified_diff_of).collect()
}

fn unified_diff_of(change: &DynamicMessage) -> Result<String> {
    let name = reflection::text(change, "name");
    let kind =
        Kind::of_resource(&name).ok_or_else(|| Error::failure(format!("{name} is of an unknown kind")))?;
    let [before, after] = states(kind, change);
    difference(kind, &name, before.as_ref(), after.as_ref())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn change(json: Value) -> DynamicMessage {
        reflection::from_json(reflection::message("trunkline.admin.v1.Change"), json).unwrap()
    }

    #[test]
    fn a_plan_and_its_diff() {
        let server = |title: &str, revision: i64| json!({"server": {"name": "servers/dev", "title": title, "meta": {"revision": revision}, "tools": [{"match": "time/*"}]}});
        let updated = change(json!({"name": "servers/dev", "action": "CHANGE_ACTION_UPDATED",
            "before": server("Old", 1), "after": server("New", 2)}));
        let created = change(
            json!({"name": "servers/dev", "action": "CHANGE_ACTION_CREATED", "after": server("New", 2)}),
        );
        let same = change(json!({"name": "servers/dev", "action": "CHANGE_ACTION_UNCHANGED",
            "before": server("New", 1), "after": server("New", 2)}));
        let all = [updated, created, same];
        insta::assert_snapshot!(all.iter().map(line).collect::<String>());
        assert_eq!(all.iter().map(fields).collect::<Vec<_>>(), [vec!["title: Old -> New"], vec![], vec![]]);
        insta::assert_snapshot!(
            all.iter().map(|c| unified_diff_of(c).unwrap()).collect::<Vec<_>>().join("=====\n")
        );
    }

    #[test]
    fn what_moves_says_from_where() {
        let moved_by =
            |action: &str| change(json!({"name": "servers/a", "action": action, "previousSet": "s1"}));
        let both = ["CHANGE_ACTION_UNCHANGED", "CHANGE_ACTION_UPDATED"].map(moved_by);
        assert_eq!(
            both.iter().map(line).collect::<String>(),
            "~ servers/a moved from set s1\n~ servers/a updated, moved from set s1\n"
        );
        assert_eq!(moved(&both[0]).as_deref(), Some("servers/a moves from set s1"));
        assert_eq!(moved(&change(json!({"name": "servers/a", "action": "CHANGE_ACTION_UPDATED"}))), None);
    }
}
