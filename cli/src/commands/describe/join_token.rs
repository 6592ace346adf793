//! What is known of a join token. Pure.

use super::facts::{Facts, items, number, text};
use crate::output::sections::Section;

/// Everything.
pub(super) fn sections(facts: &Facts) -> Vec<Section> {
    let uses = number(facts.at("uses"));
    let used = match number(facts.at("maxUses")) {
        0 => format!("{uses} of any number"),
        most => format!("{uses} of {most}"),
    };
    let edge = facts.text("edge");
    let for_edge = if edge.is_empty() { "any whose id is not enrolled".to_owned() } else { edge };
    vec![facts.head(|head| {
        head.field("Uses", used).field("For edge", for_edge);
        head.list("Enrolled", items(facts.at("enrolledEdges")).iter().map(text));
        head.field("Expires", facts.when("expireTime")).field("Created", facts.when("createTime"));
    })]
}
