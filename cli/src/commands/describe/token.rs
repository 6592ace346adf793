//! What is known of a token. Pure.

use super::facts::{Facts, items, text};
use crate::output::sections::Section;

/// Everything but what it may reach.
pub(super) fn sections(facts: &Facts) -> Vec<Section> {
    let head = facts.head(|head| {
        let expires = facts.when("expireTime");
        head.field("Expires", if expires.is_empty() { "never".to_owned() } else { expires });
        head.field("Purpose", facts.text("purpose"));
        head.field("Last used", facts.when("lastUseTime"))
            .field("Last used from", facts.text("lastUseAddress"));
        head.field("Suspended", facts.when("suspendTime"));
        head.field("Certificates", facts.text("certificates"));
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
    let mut conditions = Section::new("Conditions");
    conditions.field("Methods", facts.text("conditions.methods"));
    conditions.field("From", facts.text("conditions.from"));
    conditions.field("Not before", facts.when("conditions.notBefore"));
    for (label, list) in [("Windows", "windows"), ("Rates", "rates"), ("Quotas", "quotas")] {
        conditions.list(label, items(facts.at(&format!("conditions.{list}"))).iter().map(text));
    }
    vec![head, scope, conditions]
}
