//! Who gains and who loses which tool by an apply, in words. Pure.

use prost_reflect::DynamicMessage;

use crate::kinds::short_name;
use crate::reflection;

/// Things that are named of one; more are counted.
const MAX_NAMED: usize = 6;
/// Lines; more are counted.
const MAX_LINES: usize = 20;
/// Of how many a line tells.
const OF_A_LINE: usize = 4;

/// What an answer says of it, in lines that begin with `access: `.
pub(super) fn lines(answer: &DynamicMessage) -> Vec<String> {
    let changes = reflection::submessages(answer, "access_changes");
    let mut lines = Vec::new();
    for at_one in changes.chunk_by(|one, other| server(one) == server(other)) {
        for part in at_one.chunks(OF_A_LINE) {
            let rest = part[1..].iter().map(|change| sentence(change, ""));
            let first = sentence(&part[0], &format!(" on {}", short_name(&server(&part[0]))));
            lines.push(std::iter::once(first).chain(rest).collect::<Vec<_>>().join("; "));
        }
    }
    let more = lines.len().saturating_sub(MAX_LINES);
    lines.truncate(MAX_LINES);
    if more > 0 {
        lines.push(format!("and {more} more such lines; -o json shows them"));
    }
    match (reflection::number(answer, "access_changes_unseen"), changes.is_empty()) {
        (0, _) => {}
        (count, true) => lines.push(format!("{count} whom you may not see gain or lose something")),
        (count, false) => lines.push(format!("and {count} whom you may not see gain or lose something")),
    }
    if reflection::flag(answer, "access_changes_cut") {
        lines.push("there may be more: it is too much to work out or to tell".to_owned());
    }
    lines.iter().map(|line| format!("access: {}", printable::line(line))).collect()
}

/// Whether an answer says that anybody loses anything, or does not say that nobody does.
pub(super) fn takes_away(answer: &DynamicMessage) -> bool {
    let loses = |change: &DynamicMessage| reflection::number(change, "lost_count") > 0;
    reflection::submessages(answer, "access_changes").iter().any(loses)
        || reflection::number(answer, "access_changes_unseen") > 0
        || reflection::flag(answer, "access_changes_cut")
}

/// What somebody gains and loses. `place` follows the first of both.
fn sentence(change: &DynamicMessage, place: &str) -> String {
    let [losses, gains] = ["lost", "gained"].map(|list| named(change, list));
    let parts = [("loses", losses), ("gains", gains)];
    let mut parts = parts.into_iter().filter_map(|(verb, names)| Some(format!("{verb} {}", names?)));
    let first = format!("{} {}{place}", who(change), parts.next().unwrap_or_default());
    std::iter::once(first).chain(parts).collect::<Vec<_>>().join(", ")
}

fn who(change: &DynamicMessage) -> String {
    let name = reflection::text(change, "principal");
    match reflection::number(change, "people") {
        0 => name,
        people => format!("{name} ({people} people)"),
    }
}

/// The first things of a list, what is no tool with what it is. `None`: there are none.
fn named(change: &DynamicMessage, list: &str) -> Option<String> {
    let things = reflection::submessages(change, list);
    let count = usize::try_from(reflection::number(change, &format!("{list}_count"))).unwrap_or_default();
    let name = |thing: &DynamicMessage| match reflection::text(thing, "kind").as_str() {
        "tool" => reflection::text(thing, "name"),
        kind => format!("{kind} {}", reflection::text(thing, "name")),
    };
    let first: Vec<_> = things.iter().take(MAX_NAMED).map(name).collect();
    let more = count.saturating_sub(first.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (count > 0).then(|| first.join(", ") + &more)
}

fn server(change: &DynamicMessage) -> String {
    reflection::text(change, "server")
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
    fn who_loses_and_who_gains_is_told_server_by_server() {
        let answer = answer(json!({"accessChanges": [
            {"principal": "tokens/laptop", "server": "servers/dev", "lost": tools(&["dev_delete", "dev_write"]), "lostCount": 2},
            {"principal": "teams/core", "people": 12, "server": "servers/dev", "gained": tools(&["dev_list"]), "gainedCount": 1},
            {"principal": "users/ann", "server": "servers/lab", "lost": tools(&["a\u{1b}[2J"]), "lostCount": 1,
             "gained": [{"kind": "prompt", "name": "review"}, {"kind": "resource", "name": "docs://x"}], "gainedCount": 9},
        ], "accessChangesUnseen": 3, "accessChangesCut": true}));
        assert!(takes_away(&answer));
        assert_eq!(
            lines(&answer),
            [
                "access: tokens/laptop loses dev_delete, dev_write on dev; teams/core (12 people) gains dev_list",
                "access: users/ann loses a\\u{1b}[2J on lab, gains prompt review, resource docs://x and 7 more",
                "access: and 3 whom you may not see gain or lose something",
                "access: there may be more: it is too much to work out or to tell",
            ]
        );
    }

    #[test]
    fn where_nobody_gains_or_loses_nothing_is_said() {
        let none = answer(json!({}));
        assert_eq!((lines(&none), takes_away(&none)), (vec![], false));
        let hidden = answer(json!({"accessChangesUnseen": 2}));
        assert_eq!(lines(&hidden), ["access: 2 whom you may not see gain or lose something"]);
        let gain = json!({"principal": "tokens/t", "server": "servers/a", "gained": tools(&["x"]), "gainedCount": 1});
        let gains = answer(json!({"accessChanges": vec![gain; 100]}));
        assert!(!takes_away(&gains));
        assert_eq!(lines(&gains).len(), 21);
        assert_eq!(lines(&gains)[20], "access: and 5 more such lines; -o json shows them");
    }
}
