//! What is known of a virtual server. Pure.

use serde_json::Value;

use super::facts::{Facts, items, pairs, text};
use super::rules;
use crate::commands::members;
use crate::output::sections::Section;

/// Everything but what it exposes. `url` is where clients find it, as far as that is known, and `team` its team, if it exists for who asks.
pub(super) fn sections(facts: &Facts, url: &str, team: Option<&Facts>) -> Vec<Section> {
    let head = facts.head(|head| {
        head.field("URL", url).field("Instructions", facts.text("instructions"));
        head.field("Names", names(&facts.text("nameStyle")));
    });
    let mut section = Section::new("Members");
    for (label, list) in [("Tools", "tools"), ("Resources", "resources"), ("Prompts", "prompts")] {
        section.list(label, items(&facts.item[list]).iter().map(|one| member(list, one)));
    }
    let mut rules = rules::section(facts);
    if let Some(team) = team {
        rules::of_team(&mut rules, team);
    }
    let mut trouble = Section::new("Trouble");
    let nothing = items(facts.at("status.unresolved")).iter();
    trouble.list("Selects nothing", nothing.map(text));
    trouble.list("Taken by earlier", items(facts.at("status.shadowed")).iter().map(text));
    trouble.list("Rules of nothing", items(facts.at("status.idleRules")).iter().map(text));
    trouble.list("Names collide", items(facts.at("status.conflicts")).iter().map(text));
    trouble.field("Too large", facts.text("status.tooLarge"));
    vec![head, section, rules, trouble]
}

fn names(style: &str) -> &'static str {
    match style {
        "unprefixed" => "as upstreams give them",
        _ => "UPSTREAM_NAME, and UPSTREAM+URI of resources",
    }
}

/// A member as one line: what it selects, as the flags of `create server` take it, and what is different about it.
fn member(list: &str, member: &Value) -> String {
    let mut said = vec![members::written(list, member)];
    let labels = pairs(&member["labels"]);
    if !labels.is_empty() {
        said.push(format!("with {}", labels.join(", ")));
    }
    match member["readOnly"].as_bool() {
        Some(true) => said.push("that only read".to_owned()),
        Some(false) => said.push("that may write".to_owned()),
        None => {}
    }
    let changed = ["title", "description", "hints"].into_iter().filter(|field| !member[field].is_null());
    let changed: Vec<_> = changed.collect();
    if !changed.is_empty() {
        said.push(format!("with another {}", changed.join(", ")));
    }
    said.join(" ")
}
