//! Rules in random worlds: what edges are sent of them, and what they come to in the plainest way, with every fact at hand.

use access::rule::{Effect, Facts, OwnFacts, Rule, Rules, Target, Verdict};

use super::*;

/// What rules are true of. Each is of another kind: of nothing, of who calls, of what is called, of a request, of several.
const WHEN: [&str; 15] = [
    "",
    "true",
    "false",
    "who knows",
    "args.n > 1",
    "has(args.n)",
    r#"source.ip.inRange("10.0.0.0/8")"#,
    r#"now.getHours("UTC") < 12"#,
    r#"caller.kind == "token""#,
    r#"caller.name == "ci" || caller.name == "ann""#,
    r#""core" in caller.teams"#,
    r#"tool.name == "a" || tool.read_only"#,
    r#"method == "tools/call""#,
    r#"caller.name == "ann" || args.n > 1"#,
    r#"args.n > 1 && now.getHours("UTC") < 12"#,
];

#[derive(Debug, Clone)]
pub(super) struct RuleSpec {
    of_team: bool,
    effect: wire::CompiledEffect,
    tools: Vec<&'static str>,
    methods: Vec<&'static str>,
    when: &'static str,
}

/// What the rules of a server come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    Allowed,
    Refused,
    /// That depends on which of several things of one name is meant.
    Either,
}

pub(super) fn rules() -> impl Strategy<Value = Vec<RuleSpec>> {
    use wire::CompiledEffect::{Allow, Deny, Mask, Unspecified};
    let effect = prop_oneof![8 => Just(Deny), 6 => Just(Allow), 3 => Just(Mask), 1 => Just(Unspecified)];
    let patterns = ["*", "a", "a*", "*b", "x:*", "x:a*", "y:b", "x:{v}", "u/own-a*", "*/own-*b", "u/x:a*"];
    let tools = subsequence(patterns.to_vec(), 0..=3);
    let methods = subsequence(vec!["tools/call", "*/get", "resources/*", "completion/complete", "*"], 0..=2);
    let rule = (any::<bool>(), effect, tools, methods, select(WHEN.to_vec()));
    let rule = rule.prop_map(|(of_team, effect, tools, methods, when)| RuleSpec {
        of_team,
        effect,
        tools,
        methods,
        when,
    });
    prop_oneof![2 => Just(Vec::new()), 3 => vec(rule, 1..4)]
}

impl RuleSpec {
    pub(super) fn wire(&self) -> wire::CompiledRule {
        wire::CompiledRule {
            id: self.id(),
            effect: self.effect.into(),
            tools: strings(&self.tools),
            methods: strings(&self.methods),
            when: self.when.into(),
            fields: self.fields(),
            ..wire::CompiledRule::default()
        }
    }

    fn id(&self) -> String {
        if self.of_team { "teams/t/rules/r" } else { "servers/s/rules/r" }.to_owned()
    }

    fn plain(&self) -> Rule {
        Rule {
            id: self.id(),
            effect: match self.effect {
                wire::CompiledEffect::Allow => Effect::Allow,
                wire::CompiledEffect::Deny => Effect::Deny,
                wire::CompiledEffect::Mask => Effect::Mask,
                wire::CompiledEffect::Approve => Effect::Approve,
                wire::CompiledEffect::Unspecified => Effect::Unknown,
            },
            tools: strings(&self.tools),
            methods: strings(&self.methods),
            when: self.when.into(),
            fields: self.fields(),
            ..Rule::default()
        }
    }

    /// What a mask takes away.
    fn fields(&self) -> Vec<String> {
        if self.effect == wire::CompiledEffect::Mask { strings(&["secret"]) } else { Vec::new() }
    }
}

/// Moves what a server with rules exposes to where edges that do not know rules do not look.
pub(super) fn add(server: &mut wire::Server, rules: &[RuleSpec]) {
    if rules.is_empty() {
        return;
    }
    let wire::Server { tools, resources, resource_templates, prompts, .. } = server;
    server.ruled = Some(wire::RuledEntries {
        tools: std::mem::take(tools),
        resources: std::mem::take(resources),
        resource_templates: std::mem::take(resource_templates),
        prompts: std::mem::take(prompts),
    });
    server.rules = rules.iter().map(RuleSpec::wire).collect();
}

/// Rules of a server, ready to decide.
pub(super) fn compiled(rules: &[RuleSpec]) -> Rules {
    Rules::compile(&rules.iter().map(RuleSpec::plain).collect::<Vec<_>>())
}

/// What the rules of a server that is asked come to.
pub(super) fn plainly(spec: &Spec, asked: &Asked) -> Plain {
    let Some(server) = &spec.servers[asked.server] else { return Plain::Allowed };
    let rules = compiled(&server.rules);
    let caller = caller(spec, asked);
    let refused: BTreeSet<bool> =
        meant(server, asked).into_iter().map(|target| is_refused(&rules, &caller, target, asked)).collect();
    match (refused.contains(&true), refused.contains(&false)) {
        (true, true) => Plain::Either,
        (true, false) => Plain::Refused,
        (false, _) => Plain::Allowed,
    }
}

fn is_refused(rules: &Rules, caller: &access::rule::Caller, target: Target<'_>, asked: &Asked) -> bool {
    let (used_by, has_arguments) = match asked.use_of.1 {
        TargetKind::Tool => ("tools/call", true),
        TargetKind::Prompt => ("prompts/get", true),
        TargetKind::Resource | TargetKind::Template => ("resources/read", false),
    };
    let (server, later) = (SERVERS[asked.server], if has_arguments { Fact::Later } else { Fact::Absent });
    let is_template = target.produced != Fact::Absent || asked.use_of.1 == TargetKind::Template;
    let listed = Facts {
        caller,
        server,
        target: Target { produced: if is_template { Fact::Later } else { Fact::Absent }, ..target },
        method: used_by,
        arguments: later,
        source: Fact::Later,
        now_s: None,
    };
    let address = asked.address.map(|address| address.parse().unwrap());
    let facts = Facts {
        target,
        method: asked.use_of.0.as_str(),
        arguments: asked.arguments().map_or(Fact::Absent, |text| Fact::Is(text.as_bytes())),
        source: address.map_or(Fact::Absent, Fact::Is),
        now_s: Some(asked.now),
        ..listed
    };
    // What is not shown is not used by another method either.
    [listed, facts].iter().any(|facts| matches!(rules.decide(facts), Verdict::Denied(_)))
}

/// The name by which the upstream knows a tool or prompt.
pub(super) fn own_name(exposed: &str) -> &'static str {
    match exposed {
        "a" => "own-a",
        "b" => "own-b",
        "aa" => "own-aa",
        "ab" => "own-ab",
        "ba" => "own-ba",
        "bb" => "own-bb",
        _ => "",
    }
}

/// Whether servers say of a tool that it only reads, which its upstream does not.
pub(super) fn is_made_harmless(tool: &str) -> bool {
    tool.starts_with('a')
}

/// What a name may mean.
fn meant<'a>(server: &'a ServerSpec, asked: &'a Asked) -> Vec<Target<'a>> {
    let kind_has_own_names = matches!(asked.use_of.1, TargetKind::Tool | TargetKind::Prompt);
    let listed = |name: &'a str, is_tool: bool| {
        let hints = |read_only| if is_tool { Target::hints(read_only, None) } else { (true, false) };
        let (shown, by_itself) = (hints(is_made_harmless(name).then_some(true)), hints(None));
        Target {
            name,
            produced: Fact::Absent,
            upstream: "u",
            read_only: shown.0,
            destructive: shown.1,
            own: OwnFacts {
                name: if kind_has_own_names { own_name(name) } else { name },
                produced: &asked.name,
                read_only: by_itself.0,
                destructive: by_itself.1,
                leads_out: false,
            },
            ..Target::default()
        }
    };
    let of_template = |name: &'static str, produced| Target { produced, ..listed(name, false) };
    let name = asked.name.as_str();
    match asked.use_of.1 {
        TargetKind::Tool => vec![listed(name, true)],
        TargetKind::Prompt => vec![listed(name, false)],
        TargetKind::Template => {
            let named = server.templates.iter().filter(|template| **template == name);
            named.map(|template| of_template(template, Fact::Absent)).collect()
        }
        TargetKind::Resource => {
            let exact = server.uris.contains(name).then(|| listed(name, false));
            let produced = server.templates.iter().filter(|template| produces(template, name));
            exact.into_iter().chain(produced.map(|template| of_template(template, Fact::Is(name)))).collect()
        }
    }
}

/// Who asks, as rules know them.
fn caller(spec: &Spec, asked: &Asked) -> access::rule::Caller {
    let world = spec.world();
    let (name, kind, held) = match asked.token {
        true => {
            let token = spec.tokens[asked.who].as_ref().map(world_token);
            (TOKENS[asked.who], "token", token.and_then(|token| token.ceiling))
        }
        false => (PEOPLE[asked.who], "user", held(PEOPLE[asked.who], &spec.people[asked.who])),
    };
    let pairs = held.map(|held| held.pairs).unwrap_or_default();
    let in_teams = pairs.iter().filter(|pair| world.teams.contains_key(&pair.team));
    let teams: BTreeSet<String> =
        in_teams.map(|pair| pair.team.trim_start_matches("teams/").to_owned()).collect();
    access::rule::Caller { name: name.to_owned(), kind: kind.to_owned(), teams: teams.into_iter().collect() }
}
