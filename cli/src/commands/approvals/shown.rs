//! Approvals for people: a row each, or one with all of it. What callers wrote is text of strangers. Pure.

use prost_reflect::DynamicMessage;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::APPROVALS;
use crate::output::{self, table};
use crate::parse::{short_duration, to_the_second};
use crate::reflection;

/// Characters of an id in a table: nobody has so many approvals that it takes more.
const SHORT_ID: usize = 10;
/// Characters of arguments in a table.
const SHORT_ARGUMENTS: usize = 60;

/// A table of approvals.
pub(super) fn table(found: &[DynamicMessage], wide: bool, now: OffsetDateTime) -> String {
    let more: &[&str] = if wide { &["RULE", "FROM", "DECIDED BY", "COMMENT"] } else { &[] };
    let titles = ["ID", "AGE", "EXPIRES", "CALLER", "SERVER/TOOL", "ARGUMENTS", "STATE"];
    let titles = titles.iter().chain(more).map(|title| (*title).to_owned()).collect();
    table::render_rows(titles, found.iter().map(|one| cells(one, wide, now)))
}

fn cells(approval: &DynamicMessage, wide: bool, now: OffsetDateTime) -> Vec<String> {
    let json = reflection::to_json(approval);
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    let (id, arguments) = (text("name").replacen(APPROVALS, "", 1), text("argumentsJson"));
    // What is denied may be asked for again then.
    let is_timed = matches!(state(&json).as_str(), "pending" | "approved" | "denied");
    let expires = if is_timed { expires(&text("expireTime"), now) } else { "-".to_owned() };
    let mut cells = vec![
        if wide { id } else { cut(&id, SHORT_ID, "") },
        age(&text("createTime"), now),
        expires,
        text("principal"),
        format!("{}/{}", text("server").trim_start_matches("servers/"), text("tool")),
        if wide { arguments } else { cut(&arguments, SHORT_ARGUMENTS, "…") },
        state(&json),
    ];
    if wide {
        cells.extend(["rule", "address", "decidedBy", "comment"].map(text));
    }
    cells.iter().map(|cell| printable::line(cell).into_owned()).collect()
}

/// Whether something may become of it yet.
pub(super) fn is_open(approval: &DynamicMessage) -> bool {
    matches!(state(&reflection::to_json(approval)).as_str(), "pending" | "approved")
}

/// All of an approval.
pub(super) fn in_full(approval: &DynamicMessage, now: OffsetDateTime) -> String {
    let json = reflection::to_json(approval);
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    let time = |key: &str| to_the_second(&text(key));
    let expires = match state(&json).as_str() {
        "pending" | "approved" => {
            format!("{} (in {})", time("expireTime"), expires(&text("expireTime"), now))
        }
        _ => time("expireTime"),
    };
    let lines = [
        ("Id", text("name").replacen(APPROVALS, "", 1)),
        ("State", state(&json)),
        ("Caller", text("principal")),
        ("From", text("address")),
        ("Server", text("server")),
        ("Tool", text("tool")),
        ("Target", text("target")),
        ("Rule", text("rule")),
        ("Reason", text("reason")),
        ("Edge", text("edge")),
        ("Asked", time("createTime")),
        ("Expires", expires),
        ("Decided", time("decideTime")),
        ("Decided by", text("decidedBy")),
        ("Comment", text("comment")),
        ("Called", time("useTime")),
        ("Digest", text("digest")),
    ];
    let lines = lines.iter().filter(|(_, value)| !value.is_empty());
    let mut shown: String = lines
        .map(|(title, value)| format!("{:<12}{}\n", format!("{title}:"), printable::line(value)))
        .collect();
    let arguments = text("argumentsJson");
    if !arguments.is_empty() {
        shown += "\nArguments\n";
        // Numbers stay as they are: what is approved is this text.
        let yaml = output::yaml_of_json(&arguments).unwrap_or(arguments);
        yaml.lines().for_each(|line| shown += &format!("  {}\n", printable::line(line)));
    }
    shown
}

/// What became of one that was decided about.
pub(super) fn decided(approval: &DynamicMessage) -> String {
    let json = reflection::to_json(approval);
    let text = |key: &str| json[key].as_str().unwrap_or_default();
    let call = format!("{} at {}", text("tool"), text("server"));
    let done = match state(&json).as_str() {
        "approved" => format!(
            "approved: {} may call {call} once, until {}",
            text("principal"),
            to_the_second(text("expireTime"))
        ),
        _ => format!("denied: {} may not call {call}", text("principal")),
    };
    printable::line(&format!("{} {done}", text("name"))).into_owned()
}

fn state(json: &Value) -> String {
    reflection::word("APPROVAL_STATE_", json["state"].as_str().unwrap_or_default())
}

fn age(time: &str, now: OffsetDateTime) -> String {
    OffsetDateTime::parse(time, &Rfc3339).map(|then| short_duration(now - then)).unwrap_or_default()
}

fn expires(time: &str, now: OffsetDateTime) -> String {
    OffsetDateTime::parse(time, &Rfc3339)
        .map(|then| short_duration((then - now).max(time::Duration::ZERO)))
        .unwrap_or_default()
}

fn cut(text: &str, most: usize, end: &str) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}{end}", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    fn approval(state: &str) -> DynamicMessage {
        let json = json!({
            "name": "approvals/0123456789abcdef0123456789abcdef", "state": format!("APPROVAL_STATE_{state}"),
            "principal": "tokens/ci", "server": "servers/dev", "tool": "fs_delete", "target": "upstreams/fs/tools/delete",
            "argumentsJson": "{\"count\":10000000000000000000000,\"path\":\"/srv/\u{1b}[2J\"}", "rule": "servers/dev/rules/deletes",
            "reason": "Deletes are looked at.", "address": "192.0.2.7", "createTime": "2027-01-31T12:00:00Z",
            "expireTime": "2027-01-31T13:00:00Z", "comment": "No\u{202e}.",
        });
        reflection::from_json(reflection::message("trunkline.policy.v1.Approval"), json).unwrap()
    }

    #[test]
    fn a_row_says_who_calls_what_with_what() {
        let now = datetime!(2027-01-31 12:10 UTC);
        let shown = table(&[approval("PENDING"), approval("DENIED")], false, now);
        let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["ID", "AGE", "EXPIRES", "CALLER", "SERVER/TOOL", "ARGUMENTS", "STATE"]);
        assert_eq!(rows[1][..5], ["0123456789", "10m", "50m", "tokens/ci", "dev/fs_delete"]);
        assert_eq!(rows[1].last(), Some(&"pending"));
        assert_eq!((rows[2][2], rows[2].last()), ("50m", Some(&"denied")), "when it may be asked for again");
        let used = table(&[approval("USED")], false, now);
        assert_eq!(used.lines().last().unwrap().split_whitespace().nth(2), Some("-"), "{used}");
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
        let wide = table(&[approval("PENDING")], true, now);
        assert!(
            wide.contains("0123456789abcdef0123456789abcdef") && wide.contains("servers/dev/rules/deletes"),
            "{wide}"
        );
    }

    #[test]
    fn all_of_one_is_shown_with_the_arguments_as_they_are() {
        let shown = in_full(&approval("PENDING"), datetime!(2027-01-31 12:10 UTC));
        assert!(shown.contains("Expires:    2027-01-31T13:00:00Z (in 50m)\n"), "{shown}");
        assert!(
            shown.contains("\nArguments\n") && shown.contains(r#""count":10000000000000000000000"#),
            "{shown}"
        );
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
    }

    #[test]
    fn what_was_decided_is_said() {
        assert_eq!(
            decided(&approval("APPROVED")),
            "approvals/0123456789abcdef0123456789abcdef approved: tokens/ci may call fs_delete at servers/dev once, until 2027-01-31T13:00:00Z"
        );
        assert!(
            decided(&approval("DENIED")).ends_with("denied: tokens/ci may not call fs_delete at servers/dev")
        );
    }
}
