//! What is known of an entry of the catalogue. Pure.

use serde_json::Value;

use super::facts::{Facts, items, text};
use crate::client::signature;
use crate::kinds::Kind;
use crate::output::sections::Section;

/// Everything.
pub(super) fn sections(kind: &Kind, facts: &Facts) -> Vec<Section> {
    let raw = facts.text("definitionJson");
    let definition: Value = serde_json::from_str(&raw).unwrap_or_default();
    let head = facts.head(|head| {
        head.field("Stale since", facts.when("staleTime")).field("Upstream", upstream(&facts.text("name")));
        match kind.name {
            "Tool" => head.field("Signature", signature::tool(&raw).0).field("Effects", effects(facts)),
            "Prompt" => head.field("Signature", signature::prompt(&raw).0),
            _ => head
                .field("URI", facts.text("uri"))
                .field("URI template", facts.text("uriTemplate"))
                .field("Type", text(&definition["mimeType"])),
        };
    });
    vec![head, arguments(&definition)]
}

fn upstream(name: &str) -> String {
    name.split('/').nth(1).unwrap_or_default().to_owned()
}

/// What the upstream says of its effects.
fn effects(facts: &Facts) -> String {
    let words = [
        ("readOnly", "only reads", "may write"),
        ("destructive", "may destroy", "destroys nothing"),
        ("idempotent", "may be repeated", "not to be repeated"),
        ("openWorld", "reaches an open world", "reaches a closed world"),
    ];
    let said = words.iter().filter_map(|(hint, yes, no)| {
        facts.at("hints")[hint].as_bool().map(|is_so| if is_so { *yes } else { *no })
    });
    said.collect::<Vec<_>>().join(", ")
}

fn arguments(definition: &Value) -> Section {
    let mut section = Section::new("Arguments");
    for (name, described) in signature::parameters(&definition["inputSchema"]) {
        section.item(name, described);
    }
    for argument in items(&definition["arguments"]) {
        let mark = if argument["required"] == true { "" } else { " (optional)" };
        section.item(format!("{}{mark}", text(&argument["name"])), text(&argument["description"]));
    }
    section
}
