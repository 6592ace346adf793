//! Rules in decisions: what several of them come to, and what turns it.

use access::decide::{Decision, Reason, Request, Unknown, decide};
use access::explain::explain;
use access::rule::{Effect, Fact, Rule, Rules};
use access::world::{Entry, OwnEntry, World};
use proptest::prelude::*;

use super::decide::{call, names, some_request, some_world, world};

fn rule(id: &str, effect: Effect, tools: &[&str], when: &str) -> Rule {
    let id = if id.contains('/') { id.to_owned() } else { format!("servers/dev/rules/{id}") };
    Rule { id, effect, tools: names(tools), when: when.to_owned(), ..Rule::default() }
}

fn allow(id: &str, tools: &[&str], when: &str) -> Rule {
    rule(id, Effect::Allow, tools, when)
}

fn deny(id: &str, tools: &[&str], when: &str) -> Rule {
    rule(id, Effect::Deny, tools, when)
}

fn mask(id: &str, fields: &[&str], when: &str) -> Rule {
    Rule { fields: names(fields), ..rule(id, Effect::Mask, &[], when) }
}

fn approve(id: &str, tools: &[&str], when: &str) -> Rule {
    rule(id, Effect::Approve, tools, when)
}

fn ruled(rules: &[Rule]) -> World {
    let mut world = world();
    world.servers.get_mut("servers/dev").unwrap().rules = Rules::compile(rules);
    world.tokens.get_mut("tokens/ci").unwrap().scope.prompts = names(&["*"]);
    world
}

fn with(tool: &str, arguments: &str) -> Request {
    Request { arguments: Fact::Is(arguments.as_bytes().to_vec()), ..call("tokens/ci", tool) }
}

fn reason(rules: &[Rule], request: &Request) -> &'static str {
    decide(&ruled(rules), request).refused.map_or("", Reason::as_str)
}

#[test]
fn any_that_denies_denies_and_one_that_covers_must_allow() {
    let srv = || allow("srv", &["dev_write"], "args.path.startsWith('/srv/')");
    let tmp = || allow("tmp", &["dev_write"], "args.path.startsWith('/tmp/')");
    let etc = || deny("etc", &[], "args.path.contains('..')");
    let check = |rules: &[Rule], arguments: &str| {
        let backwards: Vec<_> = rules.iter().rev().cloned().collect();
        let request = with("dev_write", arguments);
        let found = reason(rules, &request);
        assert_eq!(reason(&backwards, &request), found, "order is irrelevant");
        found
    };
    for (rules, path, expected) in [
        (&[][..], "/etc", ""),
        (&[srv()], "/srv/a", ""),
        (&[srv()], "/etc/a", "denied_by_rule"),
        (&[srv(), tmp()], "/tmp/a", ""),
        (&[srv(), tmp()], "/etc/a", "denied_by_rule"),
        (&[srv(), etc()], "/srv/../etc", "denied_by_rule"),
        (&[etc()], "/srv/a", ""),
        (&[allow("other", &["dev_list"], "false")], "/etc", ""),
        (&[deny("all", &[], "")], "/srv/a", "denied_by_rule"),
        (&[deny("none", &[], "false")], "/srv/a", ""),
        (&[deny("broken", &[], "args.path ==")], "/srv/a", "policy_error"),
        (&[srv(), allow("broken", &[], "nobody == 1")], "/srv/a", "policy_error"),
        (&[rule("unknown", Effect::Unknown, &[], "false")], "/srv/a", "policy_error"),
        (&[deny("broken", &["dev_list"], "args.path ==")], "/srv/a", ""),
        (&[deny("missing", &[], "args.gone == 1")], "/srv/a", "policy_error"),
        (&[srv(), allow("missing", &[], "args.gone == 1")], "/srv/a", ""),
        (&[srv(), allow("missing", &[], "args.gone == 1")], "/etc/a", "policy_error"),
        (&[deny("missing", &[], "args.gone == 1"), deny("all", &[], "")], "/srv/a", "denied_by_rule"),
        (&[deny("unlike", &[], "args.path == 5")], "/srv/a", "policy_error"),
        (&[allow("unlike", &[], "args.path != 5")], "/srv/a", "policy_error"),
        (&[mask("all", &["a"], "")], "/srv/a", ""),
        (&[mask("none", &["a"], "args.gone == 1")], "/srv/a", "policy_error"),
        (&[mask("nothing", &[], "false")], "/srv/a", "policy_error"),
        (&[mask("wrong", &["a", "b."], "false")], "/srv/a", "policy_error"),
        (&[mask("all", &["a"], ""), srv()], "/etc/a", "denied_by_rule"),
        (&[approve("etc", &[], "args.path == '/etc'")], "/etc", "approval_needed"),
        (&[approve("etc", &[], "args.path == '/etc'")], "/srv", ""),
        (&[approve("etc", &["dev_list"], "")], "/etc", ""),
        (&[approve("etc", &[], "args.gone == 1")], "/etc", "policy_error"),
        (&[approve("etc", &[], ""), srv()], "/srv/a", "approval_needed"),
        (&[approve("etc", &[], ""), srv()], "/etc", "denied_by_rule"),
        (&[approve("etc", &[], ""), deny("all", &[], "")], "/etc", "denied_by_rule"),
        (&[approve("etc", &[], ""), mask("wrong", &["a."], "")], "/etc", "policy_error"),
        // An approval makes up for no rule that must allow.
        (&[approve("etc", &[], "false"), mask("none", &["a"], "false")], "/etc", ""),
    ] {
        assert_eq!(check(rules, &format!("{{\"path\":{path:?}}}")), expected, "{rules:?} {path}");
    }
    for arguments in ["null", "[]", "{\"path\":\"/srv/a\",\"path\":\"/etc\"}", "{\"Path\":\"/srv/a\"}"] {
        assert_eq!(check(&[srv()], arguments), "policy_error", "{arguments}");
        assert_eq!(check(&[etc()], arguments), "policy_error", "{arguments}");
    }
    let absent = Request { arguments: Fact::Absent, ..call("tokens/ci", "dev_write") };
    assert_eq!(reason(&[srv()], &absent), "policy_error");
}

#[test]
fn a_rule_never_gives_what_nothing_grants() {
    let world = ruled(&[allow("all", &[], "true")]);
    assert_eq!(decide(&world, &call("users/eve", "dev_list")).refused, Some(Reason::ServerNotGranted));
    assert_eq!(decide(&world, &call("users/ann", "dev_write")).refused, Some(Reason::TargetNotGranted));
}

#[test]
fn rules_are_about_what_their_tools_and_methods_name() {
    let request = |method: &str, target: &str| Request {
        method: method.into(),
        templates: if target.starts_with("memo://b") { names(&["memo://{id}"]) } else { vec![] },
        ..call("tokens/ci", target)
    };
    let methods = |methods: &[&str]| Rule { methods: names(methods), ..deny("some", &[], "") };
    for (rule, method, target, expected) in [
        (methods(&["tools/call"]), "tools/call", "dev_write", "denied_by_rule"),
        (methods(&["tools/*"]), "tools/call", "dev_write", "denied_by_rule"),
        (methods(&["prompts/get"]), "tools/call", "dev_write", ""),
        (methods(&["resources/subscribe"]), "resources/subscribe", "memo://a", "denied_by_rule"),
        (methods(&["resources/subscribe"]), "resources/read", "memo://a", ""),
        // What may not be read is not there.
        (methods(&["resources/read"]), "resources/subscribe", "memo://a", "denied_by_rule"),
        (methods(&["prompts/get"]), "completion/complete", "review", "denied_by_rule"),
        // Patterns of URIs: what servers may ignore does not lead around a refusal, nor into a permission.
        (deny("b", &["memo://b"], ""), "resources/read", "memo://b", "denied_by_rule"),
        (deny("b", &["memo://b"], ""), "resources/read", "memo://b?x", "denied_by_rule"),
        (deny("b", &["memo://b"], ""), "resources/read", "memo://bb", ""),
        (deny("b", &["memo://{id}"], ""), "resources/read", "memo://b", "denied_by_rule"),
        (allow("b", &["memo://*", "nothing"], ""), "resources/read", "memo://b", ""),
        (allow("b", &["*c"], ""), "resources/read", "memo://b#c", "denied_by_rule"),
        (deny("uri", &[], "tool.name == 'memo://b'"), "resources/read", "memo://b", "denied_by_rule"),
        (deny("uri", &[], "tool.name == 'memo://b'"), "resources/read", "memo://bc", ""),
        // A rule that reads arguments is about calls of tools, unless it says otherwise.
        (deny("args", &[], "args.x == 1"), "prompts/get", "review", ""),
        (
            Rule { methods: names(&["prompts/get"]), ..deny("args", &[], "args.x == '1'") },
            "prompts/get",
            "review",
            "depends",
        ),
        (deny("read", &[], "tool.destructive"), "resources/read", "memo://a", ""),
        // Masks and approvals are about calls of tools, whatever they say.
        (approve("all", &[], ""), "resources/read", "memo://a", ""),
        (approve("all", &[], ""), "prompts/get", "review", ""),
        (Rule { methods: names(&["*"]), ..approve("all", &[], "") }, "prompts/get", "review", ""),
        (Rule { methods: names(&["*"]), ..approve("all", &[], "") }, "tools/call", "dev_write", "depends"),
        (mask("broken", &[], ""), "prompts/get", "review", ""),
        (mask("broken", &[], ""), "tools/call", "dev_write", "policy_error"),
    ] {
        let world = ruled(std::slice::from_ref(&rule));
        let Decision { refused, open, .. } = decide(&world, &request(method, target));
        let found = if open.is_empty() { refused.map_or("", Reason::as_str) } else { "depends" };
        assert_eq!(found, expected, "{rule:?} {method} {target}");
    }
    let listing = Request { target: None, method: "tools/list".into(), ..call("tokens/ci", "") };
    assert_eq!(reason(&[deny("all", &[], "")], &listing), "", "lists are shown, with nothing in them");
}

/// Who writes a server names its tools and says what they do; what a team says of them holds all the same.
#[test]
fn rules_of_a_team_hold_whatever_a_server_makes_of_what_it_exposes() {
    let alias = Entry {
        name: "dev_wr".into(),
        upstream: "up".into(),
        read_only: true,
        own: OwnEntry { name: "write".into(), destructive: true, ..OwnEntry::default() },
        ..Entry::default()
    };
    let template = Entry {
        name: "memo://{id}".into(),
        upstream: "up".into(),
        own: OwnEntry { name: "file:///{id}".into(), produced: "file:///etc".into(), ..OwnEntry::default() },
        ..Entry::default()
    };
    let strict =
        Entry { read_only: false, own: OwnEntry { read_only: true, ..alias.own.clone() }, ..alias.clone() };
    let found = |rule: &Rule, alias: &Entry, method: &str, target: &str| {
        let mut world = ruled(std::slice::from_ref(rule));
        let dev = world.servers.get_mut("servers/dev").unwrap();
        (dev.tools, dev.templates) = (vec![alias.clone()], vec![template.clone()]);
        let templates = if target.starts_with("memo") { names(&["memo://{id}"]) } else { vec![] };
        let request = Request { method: method.into(), templates, ..call("tokens/ci", target) };
        decide(&world, &request).refused.map_or("", Reason::as_str)
    };
    let denied = "denied_by_rule";
    for (tools, when, method, target, [of_team, of_server]) in [
        (&["up/write"][..], "", "tools/call", "dev_wr", [denied, ""]),
        (&["up/*"], "", "tools/call", "dev_wr", [denied, ""]),
        (&["*/wr*"], "", "tools/call", "dev_wr", [denied, ""]),
        (&["other/write"], "", "tools/call", "dev_wr", ["", ""]),
        (&["up/dev_wr"], "", "tools/call", "dev_wr", ["", ""]),
        (&["dev_wr"], "", "tools/call", "dev_wr", [denied, denied]),
        (&["up/file:///etc"], "", "resources/read", "memo://x", [denied, ""]),
        (&["up/file:///{id}"], "", "resources/read", "memo://x", [denied, ""]),
        (&["up/file:///srv"], "", "resources/read", "memo://x", ["", ""]),
        (&[], "tool.destructive", "tools/call", "dev_wr", [denied, ""]),
        (&[], "!tool.read_only", "tools/call", "dev_wr", [denied, ""]),
    ] {
        let rule = |id: &str| deny(id, tools, when);
        assert_eq!(found(&rule("teams/core/rules/r"), &alias, method, target), of_team, "{tools:?} {when}");
        assert_eq!(
            found(&rule("servers/dev/rules/r"), &alias, method, target),
            of_server,
            "{tools:?} {when}"
        );
    }
    // What the server says is worse than its upstream does counts as well.
    let careful = deny("teams/core/rules/r", &[], "!tool.read_only");
    assert_eq!(found(&careful, &strict, "tools/call", "dev_wr"), denied);
    // What a team allows of an upstream, it allows under any name.
    let allow = |tools: &[&str]| {
        [allow("teams/core/rules/a", &["dev_*"], "false"), allow("teams/core/rules/b", tools, "")]
    };
    for (tools, expected) in [(&["up/write"], ""), (&["up/read"], denied)] {
        let mut world = ruled(&allow(tools));
        world.servers.get_mut("servers/dev").unwrap().tools = vec![alias.clone()];
        let found = decide(&world, &call("tokens/ci", "dev_wr"));
        assert_eq!(found.refused.map_or("", Reason::as_str), expected, "{tools:?}");
    }
}

#[test]
fn rules_see_who_calls_and_when_and_from_where() {
    let mut world = ruled(&[
        deny("team", &[], "!('core' in caller.teams) && caller.kind == 'user'"),
        deny("teams/core/rules/night", &[], "now.getHours('UTC') >= 18 && source.ip.inRange('10.0.0.0/8')"),
    ]);
    let reason = |world: &World, request: &Request| decide(world, request).refused.map_or("", Reason::as_str);
    assert_eq!(reason(&world, &call("users/ann", "dev_list")), "");
    assert_eq!(reason(&world, &call("users/root", "dev_list")), "denied_by_rule");
    assert_eq!(reason(&world, &call("tokens/ci", "dev_list")), "");
    let night = Request { now_s: super::decide::FRIDAY + 10 * 3_600, ..call("users/ann", "dev_list") };
    let found = decide(&world, &night);
    let last = found.grounds.last().unwrap();
    assert_eq!((last.resource.as_str(), last.field.as_str()), ("teams/core", "rules[0]"));
    assert_eq!(found.refused, Some(Reason::DeniedByRule));
    let nowhere = Request { address: None, ..night.clone() };
    assert_eq!(decide(&world, &nowhere).refused, Some(Reason::UndecidableRule));
    // What is not known is left open, each by itself; what is known is looked at.
    let open = |request: &Request| {
        let found = decide(&world, request);
        (found.refused, found.open.len(), found.depends_on)
    };
    let (address, time) =
        (Unknown { address: true, ..Unknown::default() }, Unknown { time: true, ..Unknown::default() });
    let anywhere = Request { from_anywhere: true, address: None, ..night.clone() };
    assert_eq!(open(&anywhere), (None, 1, address));
    let any = Request { at_any_time: true, ..night.clone() };
    assert_eq!(decide(&world, &any).open, ["teams/core/rules/night"]);
    assert_eq!(open(&any), (None, 1, time));
    let elsewhere = Request { at_any_time: true, address: "192.0.2.1".parse().ok(), ..night.clone() };
    assert_eq!(open(&elsewhere), (None, 0, Unknown::default()));
    let by_day = Request { now_s: super::decide::FRIDAY, ..anywhere };
    assert_eq!(open(&by_day), (None, 0, Unknown::default()));
    world.servers.get_mut("servers/dev").unwrap().rules = Rules::default();
    assert_eq!(reason(&world, &nowhere), "");
}

#[test]
fn what_rules_come_to_is_explained_and_what_turns_it() {
    let told = Rule { reason: "ask the owners".into(), ..deny("etc", &[], "args.path == '/etc'") };
    let world = ruled(&[allow("some", &["dev_*"], "true"), deny("quiet", &["dev_list"], ""), told]);
    let found = explain(&world, &with("dev_write", r#"{"path":"/etc"}"#));
    let last = found.decision.grounds.last().unwrap();
    assert_eq!(
        [last.resource.as_str(), &last.field, &last.text, &last.note],
        ["servers/dev", "rules[2]", "deny etc when args.path == '/etc'", "ask the owners"]
    );
    assert!(!last.holds);
    let remedies: Vec<_> = found
        .remedies
        .iter()
        .map(|r| [r.resource().to_owned(), r.field(), r.text(), r.command.clone()])
        .collect();
    assert_eq!(
        remedies,
        [["servers/dev", "rules[2]", "change or remove the rule etc", "mcpctl edit server dev"]
            .map(str::to_owned)]
    );
    let open = decide(&world, &call("tokens/ci", "dev_write"));
    assert_eq!((open.allowed(), open.open), (true, vec!["servers/dev/rules/etc".to_owned()]));
    let hidden = decide(&world, &call("tokens/ci", "dev_list"));
    assert_eq!(hidden.refused, Some(Reason::DeniedByRule), "it needs no arguments for that");
}

/// All that a decision says of rules: its reason, the grounds from rules, and what turns it.
fn told(rules: &[Rule], request: &Request) -> (&'static str, Vec<[String; 3]>, Vec<[String; 3]>) {
    let found = explain(&ruled(rules), request);
    let grounds = found.decision.grounds.iter().filter(|ground| ground.field.starts_with("rules["));
    let grounds = grounds.map(|ground| [ground.text.clone(), ground.note.clone(), ground.holds.to_string()]);
    let remedies =
        found.remedies.iter().map(|remedy| [remedy.field(), remedy.text(), remedy.command.clone()]);
    (found.decision.refused.map_or("", Reason::as_str), grounds.collect(), remedies.collect())
}

fn texts<const N: usize>(lines: &[[&str; N]]) -> Vec<[String; N]> {
    lines.iter().map(|line| line.map(str::to_owned)).collect()
}

#[test]
fn masks_and_approvals_are_grounds_and_an_approval_turns_it() {
    let people = mask("people", &["email", "customers.*.iban"], "caller.kind == 'token'");
    let etc = Rule {
        reason: "writes are looked at".into(),
        ..approve("etc", &["dev_write"], "args.path == '/etc'")
    };
    let rules = [people.clone(), etc];
    let masked = ["mask people when caller.kind == 'token'", "masks email, customers.*.iban", "true"];
    let passed = ["approve etc when args.path == '/etc'", "", "true"];
    let srv = with("dev_write", r#"{"path":"/srv"}"#);
    assert_eq!(told(&rules, &srv), ("", texts(&[masked, passed]), vec![]));
    let held = [
        "approve etc when args.path == '/etc'",
        "needs an approval by the rule etc: writes are looked at",
        "false",
    ];
    let by_approval =
        ["rules[1]", "call it, have somebody else approve that, and call again", "mcpctl approvals list"];
    let by_edit = ["rules[1]", "change or remove the rule etc", "mcpctl edit server dev"];
    let found = told(&rules, &with("dev_write", r#"{"path":"/etc"}"#));
    assert_eq!(found, ("approval_needed", texts(&[masked, held]), texts(&[by_approval, by_edit])));
    // Without arguments it is open, and nobody is kept from the tool.
    let open = decide(&ruled(&rules), &call("tokens/ci", "dev_write"));
    assert_eq!((open.allowed(), open.open), (true, names(&["servers/dev/rules/etc"])));
    let always = decide(&ruled(&[approve("all", &[], "")]), &call("tokens/ci", "dev_write"));
    assert_eq!((always.allowed(), always.granted()), (false, true));
    assert_eq!(always.open, names(&["servers/dev/rules/all"]));
    let other = decide(&ruled(&[people]), &call("users/ann", "dev_list"));
    assert_eq!((other.allowed(), other.open), (true, vec![]));
}

#[test]
fn what_turns_two_refusals_names_each_rule_where_it_stands() {
    let rules = [deny("c", &[], ""), allow("b", &[], "true"), deny("a", &[], "args.path == '/etc'")];
    let (reason, _, remedies) = told(&rules, &with("dev_write", r#"{"path":"/etc"}"#));
    assert_eq!(reason, "denied_by_rule");
    let text = "change or remove the rule c; change or remove the rule a";
    let found = remedies.iter().map(|[field, text, _]| (field.as_str(), text.as_str())).collect::<Vec<_>>();
    assert_eq!(found, [("rules[0], rules[2]", text)]);
}

fn some_rule() -> impl Strategy<Value = Rule> {
    const TOOLS: [&[&str]; 5] = [&[], &["dev_*"], &["dev_list", "memo://*"], &["memo://b"], &["review"]];
    const METHODS: [&[&str]; 5] = [&[], &[], &["tools/call"], &["resources/*"], &["completion/complete"]];
    const FIELDS: [&[&str]; 3] = [&["a"], &["a.*.b", "**.c"], &["a."]];
    let effect =
        prop::sample::select(&[Effect::Allow, Effect::Deny, Effect::Deny, Effect::Mask, Effect::Approve][..]);
    let fields = prop::sample::select(FIELDS.to_vec());
    let (tools, methods) = (prop::sample::select(TOOLS.to_vec()), prop::sample::select(METHODS.to_vec()));
    let when = prop::sample::select(
        &[
            "",
            "true",
            "false",
            "args.a == 1",
            "has(args.a) && args.a == 1",
            "tool.destructive",
            "caller.kind == 'token'",
            "'core' in caller.teams",
            "source.ip.inRange('10.0.0.0/8')",
            "now.getHours() < 12",
            "args.a == 1 || caller.kind == 'user'",
            "tool.name == 'memo://b'",
            "broken",
            "caller.teams[9] == 'x' || args.a == 2",
        ][..],
    );
    (effect, tools, methods, when, fields).prop_map(|(effect, tools, methods, when, fields)| Rule {
        methods: names(methods),
        fields: if effect == Effect::Mask { names(fields) } else { Vec::new() },
        ..rule("some", effect, tools, when)
    })
}

prop_compose! {
    fn some_ruled_world()(world in some_world(), rules in prop::collection::vec(some_rule(), 0..4)) -> World {
        let mut world = world;
        let numbered = rules.into_iter().enumerate().map(|(at, rule)| Rule { id: format!("servers/dev/rules/r{at}"), ..rule });
        world.servers.get_mut("servers/dev").unwrap().rules = Rules::compile(&numbered.collect::<Vec<_>>());
        world
    }
}

prop_compose! {
    fn some_ruled_request()(request in some_request(), arguments in prop::sample::select(&[
        Fact::Later, Fact::Absent, Fact::Is("{}"), Fact::Is("{\"a\":1}"), Fact::Is("{\"a\":2}"), Fact::Is("{\"a\":\"1\"}"), Fact::Is("{\"a\":1,\"A\":1}"), Fact::Is("[]"),
    ][..])) -> Request {
        let arguments = match arguments {
            Fact::Later => Fact::Later,
            Fact::Absent => Fact::Absent,
            Fact::Is(text) => Fact::Is(text.as_bytes().to_vec()),
        };
        Request { arguments, ..request }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn rules_only_narrow(world in some_ruled_world(), request in some_ruled_request()) {
        let mut free = world.clone();
        free.servers.values_mut().for_each(|server| server.rules = Rules::default());
        prop_assert!(decide(&free, &request).allowed() || !decide(&world, &request).allowed());
    }

    #[test]
    fn one_more_that_denies_only_narrows(world in some_ruled_world(), more in some_rule(), request in some_ruled_request()) {
        let mut narrow = world.clone();
        let server = narrow.servers.get_mut("servers/dev").unwrap();
        let mut rules: Vec<_> = server.rules.iter().cloned().collect();
        rules.insert(0, Rule { id: "servers/dev/rules/more".into(), effect: Effect::Deny, ..more });
        server.rules = Rules::compile(&rules);
        prop_assert!(decide(&world, &request).allowed() || !decide(&narrow, &request).allowed());
    }

    /// What masks or holds back refuses nobody anything, unless it cannot be decided.
    #[test]
    fn obligations_refuse_nothing(world in some_ruled_world(), request in some_ruled_request()) {
        let mut plain = world.clone();
        let server = plain.servers.get_mut("servers/dev").unwrap();
        let is_plain = |rule: &&Rule| !matches!(rule.effect, Effect::Mask | Effect::Approve);
        server.rules = Rules::compile(&server.rules.iter().filter(is_plain).cloned().collect::<Vec<_>>());
        let [found, plain] = [&world, &plain].map(|world| decide(world, &request));
        if found.refused != Some(Reason::UndecidableRule) {
            prop_assert_eq!(found.granted(), plain.granted());
        }
    }

    #[test]
    fn what_refuses_is_a_ground_and_every_remedy_turns_it(world in some_ruled_world(), request in some_ruled_request()) {
        let found = explain(&world, &request);
        if matches!(found.decision.refused, Some(Reason::DeniedByRule | Reason::UndecidableRule | Reason::ApprovalNeeded)) {
            let last = found.decision.grounds.last().unwrap();
            prop_assert!(!last.holds && last.field.starts_with("rules["), "{last:?}");
            prop_assert!(found.decision.open.is_empty() || found.decision.granted());
        }
        for remedy in &found.remedies {
            let mut changed = world.clone();
            remedy.changes.iter().for_each(|change| change.apply(&mut changed));
            prop_assert!(decide(&changed, &request).allowed(), "{remedy:?}");
        }
    }

    #[test]
    fn what_is_settled_without_arguments_is_so_with_all(world in some_ruled_world(), request in some_ruled_request()) {
        let before = decide(&world, &Request { arguments: Fact::Later, ..request.clone() });
        if before.open.is_empty() {
            prop_assert_eq!(decide(&world, &request).allowed(), before.allowed());
        }
    }
}
