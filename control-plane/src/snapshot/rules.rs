//! Rules of servers and teams as edges are sent them. Pure.
//!
//! It must not know what a rule says, nor which calls it is about.

use access::rule::{Effect, Rule as Ready, Rules, Target};
use serde::Deserialize;
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
        fields: rule.fields.clone(),
    })
}

fn effect(effect: RuleEffect) -> edge::CompiledEffect {
    match effect {
        RuleEffect::Unspecified => edge::CompiledEffect::Unspecified,
        RuleEffect::Allow => edge::CompiledEffect::Allow,
        RuleEffect::Deny => edge::CompiledEffect::Deny,
        RuleEffect::Mask => edge::CompiledEffect::Mask,
        RuleEffect::Approve => edge::CompiledEffect::Approve,
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

/// The rules that edges were sent, ready to decide.
pub(super) fn ready(rules: Vec<edge::CompiledRule>) -> Rules {
    let ready = rules.into_iter().map(|rule| Ready {
        effect: match rule.effect() {
            edge::CompiledEffect::Unspecified => Effect::Unknown,
            edge::CompiledEffect::Allow => Effect::Allow,
            edge::CompiledEffect::Deny => Effect::Deny,
            edge::CompiledEffect::Mask => Effect::Mask,
            edge::CompiledEffect::Approve => Effect::Approve,
        },
        id: rule.id,
        tools: rule.tools,
        methods: rule.methods,
        when: rule.when,
        reason: rule.reason,
        fields: rule.fields,
    });
    Rules::compile(&ready.collect::<Vec<_>>())
}

/// What a tool says it does, as rules see it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Hints {
    read_only_hint: Option<bool>,
    destructive_hint: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotated {
    annotations: Option<Hints>,
}

/// Whether a tool only reads, and whether it destroys: as what replaces its annotations says, or else as they say.
pub(super) fn hints(definition: &str, overrides: &str) -> (bool, bool) {
    let read = |text: &str| serde_json::from_str::<Annotated>(text).unwrap_or_default().annotations;
    let hints = read(overrides).or_else(|| read(definition)).unwrap_or_default();
    Target::hints(hints.read_only_hint, hints.destructive_hint)
}
