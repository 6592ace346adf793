//! Rules of servers and teams as edges are sent them. Pure.
//!
//! It must not know what a rule says, nor which calls it is about.

use trunkline::edge::v1 as edge;
use trunkline::policy::v1::{Rule, RuleEffect};

/// The rules of a server or team, each named by whose it is.
pub(super) fn compiled<'a>(of: &'a str, rules: &'a [Rule]) -> impl Iterator<Item = edge::CompiledRule> + 'a {
    rules.iter().map(move |rule| edge::CompiledRule {
        id: format!("{of}/rules/{}", rule.id),
        effect: effect(rule.effect()).into(),
        tools: rule.tools.clone(),
        methods: rule.methods.clone(),
        when: rule.when.clone(),
        reason: rule.reason.clone(),
    })
}

fn effect(effect: RuleEffect) -> edge::CompiledEffect {
    match effect {
        RuleEffect::Unspecified => edge::CompiledEffect::Unspecified,
        RuleEffect::Allow => edge::CompiledEffect::Allow,
        RuleEffect::Deny => edge::CompiledEffect::Deny,
    }
}

/// A server with these rules: what it exposes is where no edge finds it that does not know rules.
pub(super) fn ruled(server: edge::Server, rules: Vec<edge::CompiledRule>) -> edge::Server {
    if rules.is_empty() {
        return server;
    }
    let edge::Server { tools, resources, resource_templates, prompts, .. } = server;
    let ruled = Some(edge::RuledEntries { tools, resources, resource_templates, prompts });
    let none = Vec::new;
    edge::Server {
        rules,
        ruled,
        tools: none(),
        resources: none(),
        resource_templates: none(),
        prompts: none(),
        ..server
    }
}
