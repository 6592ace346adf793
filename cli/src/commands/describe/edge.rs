//! What is known of an edge. Pure.

use super::facts::{Facts, items, number, text};
use crate::output::sections::Section;

/// Everything.
pub(super) fn sections(facts: &Facts) -> Vec<Section> {
    let is_connected = facts.item["connected"] == true;
    let head = facts.head(|head| {
        head.field(if is_connected { "Connected" } else { "Last seen" }, facts.when("stateTime"));
        head.field("Version", facts.text("version")).field("Clients", facts.text("clientAddress"));
        head.field("Siblings", facts.text("siblingAddress")).field("Enrolled", facts.when("enrollTime"));
        head.field("Join token", facts.text("joinToken")).field("Egress", facts.text("egress"));
    });
    let mut revisions = Section::new("Revisions");
    revisions.field("Sent", facts.text("sentRevision")).field("Acknowledged", facts.text("ackedRevision"));
    let lag = facts.text("lag");
    revisions.field("Behind", if ["", "0s"].contains(&lag.as_str()) { "no" } else { &lag });
    vec![head, revisions, refusals(facts), refused_enrollments(facts)]
}

fn refusals(facts: &Facts) -> Section {
    let mut section = Section::new("Refused resources (it goes on with the last good version)");
    for refused in items(facts.at("refusals")) {
        let refusal = &refused["refusal"];
        let line = format!("{} of revision {}", text(&refusal["name"]), number(&refused["revision"]));
        section.item(line, text(&refusal["reason"]));
    }
    section
}

fn refused_enrollments(facts: &Facts) -> Section {
    let mut section = Section::new("Refused enrolments under its id");
    let at = |field: &str| facts.at(&format!("refusedEnrollments.{field}"));
    if number(at("count")) > 0 {
        section.field("Number", text(at("count"))).field("Last", facts.when_of(at("lastTime")));
        section.field("From", text(at("lastAddress"))).field("With", text(at("lastJoinToken")));
    }
    section
}
