//! What is known of a user or service account. Pure.

use serde_json::Value;

use super::facts::{Facts, items, text};
use crate::kinds::short_name;
use crate::output::sections::Section;

/// Everything.
pub(super) fn sections(facts: &Facts) -> Vec<Section> {
    let names =
        |path: &str| items(facts.at(path)).iter().map(|name| short_name(&text(name))).collect::<Vec<_>>();
    vec![facts.head(|head| {
        head.field("Email", facts.text("email")).field("Owner", short_name(&facts.text("owner")));
        head.field("Team", short_name(&facts.text("team")));
        if facts.at("disabled") == true {
            head.field("Disabled", "yes");
        }
        if facts.at("suspended") == true {
            head.field("Suspended", "yes: who answers for it is disabled");
        }
        if facts.at("mustChangePassword") == true {
            head.field("Must do", "choose another password");
        }
        head.list("Roles", items(facts.at("bindings")).iter().map(binding));
        head.list("Teams", names("teams"));
        head.field("Signed in", facts.when("lastSignInTime")).field("Created", facts.when("createTime"));
        head.field("Etag", facts.text("etag"));
    })]
}

fn binding(binding: &Value) -> String {
    let [role, team] = ["role", "team"].map(|key| short_name(&text(&binding[key])));
    if team.is_empty() { role } else { format!("{role} in {team}") }
}
