//! The rules of a server, read from what the control plane says of them, and what it exposes under them.
//!
//! A server that is refused keeps its last good version, which may allow more. So nothing is refused here: a rule that cannot be read
//! refuses what it covers, and is reported.

use access::rule::{Effect, Rule};
use trunkline::edge::v1 as wire;

use super::super::ServerRules;

/// Reads the rules of a server; `None` where it has none.
pub(super) fn of(server: &wire::Server) -> Option<ServerRules> {
    ServerRules::new(&server.rules.iter().map(rule).collect::<Vec<_>>())
}

/// Describes those that cannot be read.
pub(super) fn problems(rules: Option<&ServerRules>) -> Vec<String> {
    let unusable = rules.into_iter().flat_map(ServerRules::unusable);
    unusable.map(|(rule, why)| format!("{}: {why}", rule.id)).collect()
}

/// What a server exposes.
pub(super) struct Exposed<'a> {
    pub(super) tools: &'a [wire::Entry],
    pub(super) resources: &'a [wire::Entry],
    pub(super) resource_templates: &'a [wire::Entry],
    pub(super) prompts: &'a [wire::Entry],
}

impl<'a> Exposed<'a> {
    /// That of a server with rules is where an edge that does not know rules does not look.
    pub(super) fn of(server: &'a wire::Server) -> Self {
        match &server.ruled {
            Some(wire::RuledEntries { tools, resources, resource_templates, prompts }) => {
                Self { tools, resources, resource_templates, prompts }
            }
            None => Self {
                tools: &server.tools,
                resources: &server.resources,
                resource_templates: &server.resource_templates,
                prompts: &server.prompts,
            },
        }
    }
}

fn rule(wire: &wire::CompiledRule) -> Rule {
    let wire::CompiledRule { id, effect, tools, methods, when, reason, fields } = wire.clone();
    let effect = match wire::CompiledEffect::try_from(effect) {
        Ok(wire::CompiledEffect::Allow) => Effect::Allow,
        Ok(wire::CompiledEffect::Deny) => Effect::Deny,
        Ok(wire::CompiledEffect::Mask) => Effect::Mask,
        Ok(wire::CompiledEffect::Approve) => Effect::Approve,
        Ok(wire::CompiledEffect::Unspecified) | Err(_) => Effect::Unknown,
    };
    Rule { id, effect, tools, methods, when, reason, fields }
}
