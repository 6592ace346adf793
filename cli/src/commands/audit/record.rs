//! Records for people: a row each, or one with all of it.

use prost_reflect::DynamicMessage;
use serde_json::Value;
use similar::TextDiff;

use crate::output::{self, table};
use crate::parse;
use crate::reflection;

/// The columns of records, as wide as those that were shown before.
pub(super) struct RecordColumns {
    wide: bool,
    widths: Vec<usize>,
}

impl RecordColumns {
    pub(super) fn new(wide: bool) -> Self {
        Self { wide, widths: Vec::new() }
    }

    fn titles(&self) -> Vec<String> {
        let more: &[&str] = if self.wide { &["THROUGH", "EDGE", "REVISION", "REQUEST", "CALL"] } else { &[] };
        ["NUMBER", "TIME", "ACTOR", "ACTION", "RESOURCE", "OUTCOME", "FROM"]
            .iter()
            .chain(more)
            .map(|title| (*title).to_owned())
            .collect()
    }

    fn cells(&self, record: &DynamicMessage) -> Vec<String> {
        let json = reflection::to_json(record);
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        let mut cells = vec![
            text("sequence"),
            parse::to_the_second(&text("time")),
            text("actor"),
            verb(&text("action")),
            text("resource"),
            outcome(&json),
            text("address"),
        ];
        if self.wide {
            cells.extend(["through", "edge", "revision", "requestId"].map(text));
            cells.push(approval(&json).map(|after| call(&after)).unwrap_or_default());
        }
        cells
    }

    /// A whole table.
    pub(super) fn table(&self, found: &[DynamicMessage]) -> String {
        table::render_rows(self.titles(), found.iter().map(|record| self.cells(record)))
    }

    /// Rows after those that were shown before: titles come once, and a column never gets narrower.
    pub(super) fn rows(&mut self, found: &[DynamicMessage]) -> String {
        let titles = Some(self.titles()).filter(|_| self.widths.is_empty());
        let rows: Vec<_> = titles.into_iter().chain(found.iter().map(|record| self.cells(record))).collect();
        let mut text = String::new();
        for row in rows {
            self.widths.resize(row.len(), 0);
            for (width, cell) in self.widths.iter_mut().zip(&row) {
                let shown = printable::line(cell);
                *width = shown.chars().count().max(*width);
                text += &format!("{shown:<width$}  ", width = *width);
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }
}

/// The rpc without its service; methods of MCP as they are.
fn verb(action: &str) -> String {
    let service = action.strip_prefix("trunkline.").and_then(|rest| rest.split_once('/'));
    service.map_or(action, |(_, rpc)| rpc).to_owned()
}

/// An approval as it is after a change of it.
fn approval(record: &Value) -> Option<Value> {
    let text = |key: &str| record[key].as_str().unwrap_or_default();
    let is_one = text("resource").starts_with("approvals/");
    is_one.then(|| serde_json::from_str(text("afterJson")).ok())?
}

/// Whose call an approval is of, which, and in whose name somebody decided who is told by a webhook alone.
fn call(approval: &Value) -> String {
    let text = |key: &str| approval[key].as_str().unwrap_or_default();
    let server = text("server").trim_start_matches("servers/");
    let told = match text("onBehalfOf") {
        "" => String::new(),
        who => format!(", as {who} says"),
    };
    format!("{server}/{} by {}{told}", text("tool"), text("principal"))
}

/// What became of an approval: its new state, unless that says too little.
fn of_approval(before: &str, after: &Value) -> Option<String> {
    let before: Value = serde_json::from_str(before).unwrap_or_default();
    let state = after["state"].as_str()?;
    Some(match (before["state"].as_str(), state) {
        (None, "pending") => "asked".to_owned(),
        (Some("used"), "approved") => "returned".to_owned(),
        (_, state) => state.to_owned(),
    })
}

/// What became of it, and how often.
fn outcome(record: &Value) -> String {
    let text = |key: &str| record[key].as_str().unwrap_or_default();
    let count: u64 = text("count").parse().unwrap_or(1);
    if let Some(told) = approval(record).and_then(|after| of_approval(text("beforeJson"), &after)) {
        return told;
    }
    let what = match (text("kind"), text("reason")) {
        ("AUDIT_KIND_GAP", _) => return format!("{} missing", parse::counted(count, "record")),
        (_, reason) if !reason.is_empty() => reason.to_owned(),
        ("AUDIT_KIND_REFUSAL", _) => "refused".to_owned(),
        ("AUDIT_KIND_SIGN_IN", _) => "signed in".to_owned(),
        ("AUDIT_KIND_CALL", _) => "called".to_owned(),
        _ => match (text("beforeJson").is_empty(), text("afterJson").is_empty()) {
            (true, false) => "created".to_owned(),
            (false, true) => "deleted".to_owned(),
            (false, false) => "changed".to_owned(),
            (true, true) => "done".to_owned(),
        },
    };
    if count > 1 { format!("{what} ({count} times)") } else { what }
}

/// All of a record, with the difference that it made.
pub(super) fn in_full(record: &DynamicMessage) -> String {
    let json = reflection::to_json(record);
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    let lines = [
        ("Number", text("sequence")),
        ("Time", text("time")),
        ("Actor", text("actor")),
        ("Actor uid", text("actorUid")),
        ("Through", text("through")),
        ("From", text("address")),
        ("Action", text("action")),
        ("Resource", text("resource")),
        ("Outcome", outcome(&json)),
        ("Call", approval(&json).map(|after| call(&after)).unwrap_or_default()),
        ("Rule", text("rule")),
        ("Approval", text("approval")),
        ("Revision", text("revision")),
        ("Edge", text("edge")),
        ("Request", text("requestId")),
        ("Arguments", hexadecimal(record, "arguments_sha256")),
        ("Hash", hexadecimal(record, "hash")),
    ];
    let lines = lines.iter().filter(|(_, value)| !value.is_empty());
    let mut shown: String = lines
        .map(|(title, value)| format!("{:<12}{}\n", format!("{title}:"), printable::line(value)))
        .collect();
    let (before, after) = (yaml(&text("beforeJson")), yaml(&text("afterJson")));
    if before != after {
        let diff = TextDiff::from_lines(&before, &after);
        shown += "\n";
        shown += &diff.unified_diff().context_radius(3).header("before", "after").to_string();
    }
    shown
}

fn hexadecimal(record: &DynamicMessage, field: &str) -> String {
    let value = record.get_field_by_name(field);
    let bytes = value.as_ref().and_then(|value| value.as_bytes());
    bytes.into_iter().flatten().map(|byte| format!("{byte:02x}")).collect()
}

/// What there was, or is, as YAML. What is no JSON stays as it is.
fn yaml(json: &str) -> String {
    let read = serde_json::from_str::<Value>(json).ok();
    read.and_then(|value| output::yaml(&value).ok()).unwrap_or_else(|| json.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(json: Value) -> DynamicMessage {
        reflection::from_json(reflection::message("trunkline.admin.v1.AuditRecord"), json).unwrap()
    }

    fn change() -> DynamicMessage {
        record(json!({
            "sequence": "7", "time": "2027-01-31T12:00:00.123Z", "kind": "AUDIT_KIND_CHANGE", "actor": "users/ann@example.org",
            "address": "192.0.2.7", "action": "trunkline.registry.v1.ServerService/UpdateServer", "resource": "servers/dev",
            "revision": "12", "count": "1", "beforeJson": "{\"name\":\"servers/dev\",\"title\":\"One\"}",
            "afterJson": "{\"name\":\"servers/dev\",\"title\":\"Two\"}", "hash": "AAEC",
        }))
    }

    #[test]
    fn a_row_says_who_did_what_to_what() {
        let refusal = record(json!({
            "sequence": "8", "time": "2027-01-31T12:00:01Z", "kind": "AUDIT_KIND_REFUSAL", "actor": "tokens/ci",
            "action": "tools/call", "resource": "servers/dev/tools/\u{1b}[2J", "reason": "address_not_allowed", "count": "3",
            "edge": "edges/one",
        }));
        let gap = record(
            json!({"sequence": "9", "kind": "AUDIT_KIND_GAP", "count": "4", "action": "lose audit records"}),
        );
        let table = RecordColumns::new(false).table(&[change(), refusal.clone(), gap]);
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(rows[0], ["NUMBER", "TIME", "ACTOR", "ACTION", "RESOURCE", "OUTCOME", "FROM"]);
        let (first, second) = ("2027-01-31T12:00:00Z", "2027-01-31T12:00:01Z");
        assert_eq!(
            rows[1],
            ["7", first, "users/ann@example.org", "UpdateServer", "servers/dev", "changed", "192.0.2.7"]
        );
        assert_eq!(rows[2][..4], ["8", second, "tokens/ci", "tools/call"]);
        assert_eq!(rows[2][5..], ["address_not_allowed (3 times)"]);
        assert_eq!(rows[3], ["9", "lose audit records", "4 records missing"]);
        let mut columns = RecordColumns::new(true);
        let first = columns.rows(&[change()]);
        assert_eq!(first.lines().count(), 2, "{first}");
        let next = columns.rows(&[refusal]);
        assert!(
            next.lines().count() == 1 && next.contains("edges/one") && !next.contains('\u{1b}'),
            "{next}"
        );
    }

    #[test]
    fn of_an_approval_it_is_said_what_became_of_it_and_whose_call_it_is() {
        let approval = |before: &str, state: &str, by: &str| {
            let before =
                if before.is_empty() { String::new() } else { json!({ "state": before }).to_string() };
            let mut after = json!({
                "state": state, "principal": "tokens/ci", "server": "servers/dev", "tool": "fs_drop", "digest": "00",
            });
            if !by.is_empty() {
                after["onBehalfOf"] = by.into();
            }
            record(json!({
                "sequence": "7", "kind": "AUDIT_KIND_CHANGE", "resource": "approvals/a1", "count": "1",
                "beforeJson": before, "afterJson": after.to_string(),
            }))
        };
        for (before, state, told) in [
            ("", "pending", "asked"),
            ("pending", "approved", "approved"),
            ("approved", "denied", "denied"),
            ("approved", "used", "used"),
            ("used", "approved", "returned"),
            ("pending", "expired", "expired"),
        ] {
            let cells = RecordColumns::new(true).cells(&approval(before, state, ""));
            let shown = (cells[5].as_str(), cells.last().map(String::as_str));
            assert_eq!(shown, (told, Some("dev/fs_drop by tokens/ci")), "{before} {state}");
        }
        let by_webhook = in_full(&approval("pending", "approved", "slack:U1"));
        assert!(by_webhook.contains("Outcome:    approved\n"), "{by_webhook}");
        assert!(
            by_webhook.contains("Call:       dev/fs_drop by tokens/ci, as slack:U1 says\n"),
            "{by_webhook}"
        );
        assert_eq!(outcome(&reflection::to_json(&change())), "changed");
    }

    #[test]
    fn one_record_is_shown_with_the_difference_that_it_made() {
        let shown = in_full(&change());
        assert!(shown.contains("Hash:       000102\n"), "{shown}");
        assert!(shown.contains("-title: One\n+title: Two\n"), "{shown}");
    }
}
