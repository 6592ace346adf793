//! Who gains and who loses which tool by an apply, in words. Pure.

use prost_reflect::DynamicMessage;

use crate::kinds::short_name;
use crate::reflection;

/// Things that are named of one; more are counted.
const MAX_NAMED: usize = 6;
/// Lines; more are counted.
const MAX_LINES: usize = 20;

/// What an answer says of it, in lines that begin with `access: `.
pub(super) fn lines(answer: &DynamicMessage) -> Vec<String> {
    let changes = reflection::submessages(answer, "access_changes");
    let mut lines: Vec<_> = changes.iter().flat_map(sentences).collect();
    let more = lines.len().saturating_sub(MAX_LINES);
    lines.truncate(MAX_LINES);
    if more > 0 {
        lines.push(format!("and {more} more such lines; -o json shows them"));
    }
    lines.extend(unseen(answer));
    if reflection::flag(answer, "access_changes_cut") {
        lines.push("there may be more: it is too much to work out or to tell".to_owned());
    }
    lines.iter().map(|line| format!("access: {}", printable::line(line))).collect()
}

/// Whether apply says it unasked: where anybody loses anything, depends on rules or is free of some, where that is not known, and where something that was
/// there already is another. Who makes something new knows that it is for somebody.
pub(super) fn is_worth_saying(answer: &DynamicMessage) -> bool {
    let number = |change: &DynamicMessage, field: &str| reflection::number(change, field);
    let counts = ["lost_count", "ruled_count", "loosened_count"];
    let takes = |change: &DynamicMessage| counts.iter().any(|count| number(change, count) > 0);
    let is_of_old = |change: &DynamicMessage| {
        ["updated", "deleted"].contains(&reflection::enum_word(change, "action").as_str())
    };
    // A control plane of before does not say how many of them lose.
    let [unseen, losing, gaining] = ["", "_losing", "_gaining"]
        .map(|of| reflection::number(answer, &format!("access_changes_unseen{of}")));
    reflection::submessages(answer, "access_changes").iter().any(takes)
        || losing > 0
        || (unseen > 0 && gaining == 0)
        || reflection::flag(answer, "access_changes_cut")
        || reflection::submessages(answer, "changes").iter().any(is_of_old)
}

/// How many more there are, and what becomes of them.
fn unseen(answer: &DynamicMessage) -> Option<String> {
    let number = |field: &str| reflection::number(answer, field);
    let count = number("access_changes_unseen");
    let parts = [
        (number("access_changes_unseen_losing"), "loses", "lose"),
        (number("access_changes_unseen_gaining"), "gains", "gain"),
    ];
    let parts = parts.into_iter().filter(|(count, ..)| *count > 0);
    let parts: Vec<_> =
        parts.map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many })).collect();
    match (count, parts.is_empty()) {
        (0, _) => None,
        // A control plane of before says no more.
        (_, true) => Some(format!("{count} whom you may not see gain or lose something")),
        (_, false) => Some(format!("{count} whom you may not see: {}", parts.join(", "))),
    }
}

/// What somebody gains and loses, and of what rules decide from now on.
fn sentences(change: &DynamicMessage) -> Vec<String> {
    let (who, server) = (who(change), reflection::text(change, "server"));
    let at = short_name(&server);
    let verbs = [("loses", "lost"), ("gains", "gained")];
    let parts: Vec<_> = verbs
        .iter()
        .filter_map(|(verb, list)| Some(format!("{verb} {}", named(change, list, name)?)))
        .collect();
    let moved = (!parts.is_empty()).then(|| format!("{who} {} on {at}", parts.join(", ")));
    let ruled = named(change, "ruled", |thing| ruled_name(thing, &server));
    let ruled = ruled.map(|things| format!("{who} may use on {at} as rules decide: {things}"));
    let loosened = reflection::submessages(change, "loosened");
    let loosened = loosened.iter().map(|rule| format!("{who} may use on {at} {}", free_of(rule, &server)));
    moved.into_iter().chain(ruled).chain(loosened).collect()
}

/// The rule that binds no more, or by something else, and what it was about.
fn free_of(rule: &DynamicMessage, server: &str) -> String {
    let effect = match reflection::text(rule, "effect").as_str() {
        "approve" => "approval".to_owned(),
        effect => effect.to_owned(),
    };
    let named = format!("the rule {} ({effect})", own_name(&reflection::text(rule, "rule"), server));
    let how = match reflection::flag(rule, "changed") {
        true => format!("as {named} says from now on"),
        false => format!("without {named}"),
    };
    let (things, count) =
        (reflection::submessages(rule, "targets"), reflection::number(rule, "target_count"));
    format!("{how}: {}", first(&things, count, name))
}

fn who(change: &DynamicMessage) -> String {
    let name = reflection::text(change, "principal");
    match reflection::number(change, "people") {
        0 => name,
        people => format!("{name} ({people} people)"),
    }
}

/// The first things of a list. `None`: there are none.
fn named(change: &DynamicMessage, list: &str, name: impl Fn(&DynamicMessage) -> String) -> Option<String> {
    let things = reflection::submessages(change, list);
    let count = reflection::number(change, &format!("{list}_count"));
    (count > 0).then(|| first(&things, count, name))
}

/// The first of so many things.
fn first(things: &[DynamicMessage], count: i64, name: impl Fn(&DynamicMessage) -> String) -> String {
    let first: Vec<_> = things.iter().take(MAX_NAMED).map(name).collect();
    let more = usize::try_from(count).unwrap_or_default().saturating_sub(first.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    first.join(", ") + &more
}

/// What is no tool is named with what it is.
fn name(thing: &DynamicMessage) -> String {
    match reflection::text(thing, "kind").as_str() {
        "tool" => reflection::text(thing, "name"),
        kind => format!("{kind} {}", reflection::text(thing, "name")),
    }
}

/// A thing with the rules that decide of it: those of its server by their ids.
fn ruled_name(thing: &DynamicMessage, server: &str) -> String {
    let rules = reflection::texts(thing, "rules");
    let rules: Vec<_> = rules.iter().map(|rule| own_name(rule, server)).collect();
    format!("{} ({})", name(thing), rules.join(", "))
}

/// A rule of the server by its id, and others by their names.
fn own_name<'a>(rule: &'a str, server: &str) -> &'a str {
    let own = rule.strip_prefix(server).and_then(|rest| rest.strip_prefix("/rules/"));
    own.unwrap_or(rule)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn answer(answer: Value) -> DynamicMessage {
        let message = reflection::message("trunkline.admin.v1.ApplyResourcesResponse");
        reflection::from_json(message, answer).unwrap()
    }

    fn tools(names: &[&str]) -> Vec<Value> {
        names.iter().map(|name| json!({"kind": "tool", "name": name})).collect()
    }

    #[test]
    fn who_loses_and_who_gains_is_a_line_each() {
        let ruled = json!([{"kind": "tool", "name": "dev_read", "rules": ["servers/dev/rules/only-z", "teams/core/rules/no-etc"]}]);
        let answer = answer(json!({"accessChanges": [
            {"principal": "tokens/laptop", "server": "servers/dev", "lost": tools(&["dev_delete", "dev_write"]), "lostCount": 2},
            {"principal": "teams/core", "people": 12, "server": "servers/dev", "gained": tools(&["dev_list"]), "gainedCount": 1,
             "ruled": ruled, "ruledCount": 1},
            {"principal": "users/ann", "server": "servers/lab", "lost": tools(&["a\u{1b}[2J"]), "lostCount": 1,
             "gained": [{"kind": "prompt", "name": "review"}, {"kind": "resource", "name": "docs://x"}], "gainedCount": 9},
        ], "accessChangesUnseen": 4, "accessChangesUnseenLosing": 1, "accessChangesUnseenGaining": 3, "accessChangesCut": true}));
        assert!(is_worth_saying(&answer));
        assert_eq!(
            lines(&answer),
            [
                "access: tokens/laptop loses dev_delete, dev_write on dev",
                "access: teams/core (12 people) gains dev_list on dev",
                "access: teams/core (12 people) may use on dev as rules decide: dev_read (only-z, teams/core/rules/no-etc)",
                "access: users/ann loses a\\u{1b}[2J, gains prompt review, resource docs://x and 7 more on lab",
                "access: 4 whom you may not see: 1 loses, 3 gain",
                "access: there may be more: it is too much to work out or to tell",
            ]
        );
    }

    #[test]
    fn who_is_free_of_a_rule_is_told_of_which() {
        let rule = |id: &str, effect: &str, changed: bool| {
            json!({"rule": id, "effect": effect, "changed": changed,
            "targets": tools(&["crm_delete_customer"]), "targetCount": 1})
        };
        let loosened = [
            rule("servers/desk/rules/deletes", "approve", false),
            rule("servers/desk/rules/robots-mask", "mask", true),
            rule("teams/core/rules/no-etc", "deny", false),
        ];
        let answer = answer(
            json!({"accessChanges": [{"principal": "teams/core", "people": 2, "server": "servers/desk",
            "loosened": loosened, "loosenedCount": 3}]}),
        );
        assert!(is_worth_saying(&answer));
        assert_eq!(
            lines(&answer),
            [
                "access: teams/core (2 people) may use on desk without the rule deletes (approval): crm_delete_customer",
                "access: teams/core (2 people) may use on desk as the rule robots-mask (mask) says from now on: crm_delete_customer",
                "access: teams/core (2 people) may use on desk without the rule teams/core/rules/no-etc (deny): crm_delete_customer",
            ]
        );
    }

    #[test]
    fn where_nobody_gains_or_loses_nothing_is_said() {
        let none = answer(json!({}));
        assert_eq!((lines(&none), is_worth_saying(&none)), (vec![], false));
        let hidden = answer(json!({"accessChangesUnseen": 2}));
        assert_eq!(lines(&hidden), ["access: 2 whom you may not see gain or lose something"]);
        assert!(is_worth_saying(&hidden));
        let gaining = answer(json!({"accessChangesUnseen": 2, "accessChangesUnseenGaining": 2}));
        assert!(!is_worth_saying(&gaining));
        let gain = json!({"principal": "tokens/t", "server": "servers/a", "gained": tools(&["x"]), "gainedCount": 1});
        let gains = |action: &str| {
            answer(json!({"accessChanges": vec![gain.clone(); 25], "changes": [{"action": action}]}))
        };
        assert_eq!(lines(&gains("CHANGE_ACTION_CREATED")).len(), 21);
        assert_eq!(
            lines(&gains("CHANGE_ACTION_CREATED"))[20],
            "access: and 5 more such lines; -o json shows them"
        );
        assert!(!is_worth_saying(&gains("CHANGE_ACTION_CREATED")), "whoever makes something knows for whom");
        assert!(is_worth_saying(&gains("CHANGE_ACTION_UPDATED")));
    }
}
