//! What is known of a team, and of a role. Pure.

use super::facts::{Facts, items, number, text};
use super::rules;
use crate::output::sections::Section;

/// Everything of a team but its members.
pub(super) fn sections(facts: &Facts) -> Vec<Section> {
    let head = facts.head(|head| {
        head.field("Members", number(facts.at("status.memberCount")).to_string());
        head.list("Owners", items(facts.at("status.owners")).iter().map(text));
    });
    let mut scope = Section::new("Scope");
    if facts.at("scope").is_null() {
        scope.field("Servers", "its own").field("Of them", "everything");
        return vec![head, scope, rules::section(facts)];
    }
    let others = facts.text("scope.servers");
    scope.field(
        "Servers",
        if others.is_empty() { "its own".to_owned() } else { format!("its own, {others}") },
    );
    for (label, list) in [("Tools", "tools"), ("Resources", "resources"), ("Prompts", "prompts")] {
        let globs = facts.text(&format!("scope.{list}"));
        scope.field(label, if globs.is_empty() { "none".to_owned() } else { globs });
    }
    vec![head, scope, rules::section(facts)]
}

/// Everything of a role.
pub(super) fn of_role(facts: &Facts) -> Vec<Section> {
    let is_built_in = facts.at("builtIn").as_bool() == Some(true);
    vec![facts.head(|head| {
        head.field("Built in", if is_built_in { "yes" } else { "" });
        head.list("Permissions", items(facts.at("permissions")).iter().map(text));
    })]
}
