//! Rules of a server or a team, each as one line. Pure.

use serde_json::Value;

use super::facts::{Facts, items, text};
use crate::output::sections::Section;

/// The rules, as they were written.
pub(super) fn section(facts: &Facts) -> Section {
    let mut section = Section::new("Rules");
    for (effect, title) in [("deny", "Deny"), ("allow", "Allow"), ("approve", "Approve"), ("mask", "Mask")] {
        let rules = items(facts.at("rules")).iter().filter(|rule| text(&rule["effect"]) == effect);
        section.list(title, rules.map(line));
    }
    section
}

/// Adds those of the team of a server, which hold there as well.
pub(super) fn of_team(section: &mut Section, team: &Facts) {
    let line = |rule: &Value| format!("{} {}", text(&rule["effect"]), line(rule));
    section.list(&format!("Of {}", team.text("name")), items(team.at("rules")).iter().map(line));
}

/// What a rule covers, and when.
fn line(rule: &Value) -> String {
    let mut said = text(&rule["id"]);
    for (word, list) in [("of", "tools"), ("by", "methods"), ("masks", "fields")] {
        let names: Vec<_> = items(&rule[list]).iter().map(text).collect();
        if !names.is_empty() {
            said += &format!(" {word} {}", names.join(", "));
        }
    }
    let when = text(&rule["when"]);
    match when.split_whitespace().collect::<Vec<_>>().join(" ") {
        when if when.is_empty() => said += ": always",
        when => said += &format!(": {when}"),
    }
    let reason = text(&rule["reason"]);
    if reason.is_empty() { said } else { format!("{said} ({reason})") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_is_one_line() {
        let rule = json!({"id": "no-etc", "tools": ["dev_*"], "methods": ["tools/call"],
            "when": "args.path\n  .startsWith('/etc')", "reason": "ask the owners"});
        assert_eq!(
            line(&rule),
            "no-etc of dev_* by tools/call: args.path .startsWith('/etc') (ask the owners)"
        );
        assert_eq!(line(&json!({"id": "all"})), "all: always");
        let mask = json!({"id": "people", "tools": ["dev_*"], "fields": ["email", "customers.*.iban"]});
        assert_eq!(line(&mask), "people of dev_* masks email, customers.*.iban: always");
    }
}
