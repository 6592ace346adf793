//! What is known of a token. Pure.

use super::facts::{Facts, items, text};
use crate::output::sections::Section;

/// Everything but what it may reach.
pub(super) fn sections(facts: &Facts) -> Vec<Section> {
    let head = facts.head(|head| {
        let expires = facts.when("expireTime");
        head.field("Expires", if expires.is_empty() { "never".to_owned() } else { expires });
        head.field("Revoked", facts.when("revokeTime")).field("Signing key", facts.text("keyId"));
    });
    let mut scope = Section::new("Scope");
    for (label, list) in
        [("Servers", "servers"), ("Tools", "tools"), ("Resources", "resources"), ("Prompts", "prompts")]
    {
        let globs = facts.text(&format!("scope.{list}"));
        scope.field(label, if globs.is_empty() { "none".to_owned() } else { globs });
    }
    scope.list("Matches nothing", items(facts.at("unmatched")).iter().map(text));
    vec![head, scope]
}
