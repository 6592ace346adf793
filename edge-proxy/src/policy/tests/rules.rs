//! Rules of a server, at its edge: what they hide, what they refuse, and what holds of that while a call goes on.

use std::net::Ipv4Addr;
use std::rc::Rc;

use delta::client::Sink as _;

use super::*;
use crate::snapshot::build::tests::{builder, fixture};

const NOW: &str = "time_now";
const SET: &str = "time_set";

fn rule(effect: wire::CompiledEffect, tools: &[&str], when: &str) -> wire::CompiledRule {
    wire::CompiledRule {
        id: format!("servers/dev/rules/{}", if when.is_empty() { "always" } else { when }),
        effect: effect.into(),
        tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
        when: when.to_owned(),
        reason: "ask the owner".to_owned(),
        ..wire::CompiledRule::default()
    }
}

fn deny(tools: &[&str], when: &str) -> wire::CompiledRule {
    rule(wire::CompiledEffect::Deny, tools, when)
}

fn allow(tools: &[&str], when: &str) -> wire::CompiledRule {
    rule(wire::CompiledEffect::Allow, tools, when)
}

fn mask(tools: &[&str], when: &str) -> wire::CompiledRule {
    let fields = vec!["email".to_owned()];
    wire::CompiledRule { fields, ..rule(wire::CompiledEffect::Mask, tools, when) }
}

fn approve(tools: &[&str], when: &str) -> wire::CompiledRule {
    rule(wire::CompiledEffect::Approve, tools, when)
}

/// The resources with these rules for `servers/dev`.
fn ruled(rules: &[wire::CompiledRule]) -> Resources {
    let mut resources = fixture();
    let server = &mut resources.servers[0];
    let tools = std::mem::take(&mut server.tools);
    server.ruled = Some(wire::RuledEntries { tools, ..wire::RuledEntries::default() });
    server.rules = rules.to_vec();
    resources
}

fn principal() -> Arc<Principal> {
    Arc::new(Principal::new(PrincipalKind::Token, "uid-all".into(), "tokens/all".into(), None))
}

fn facts() -> Facts {
    Facts { address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), now: 1 }
}

fn admitted<'a>(snapshot: &'a Snapshot, principal: &'a Arc<Principal>) -> Caller<'a> {
    admit(snapshot, principal, "dev", facts()).unwrap()
}

fn call(caller: &Caller<'_>, tool: &str, arguments: Arguments<'_>) -> Result<Permit, Denied> {
    super::super::check(caller, Method::ToolsCall, &NamedTarget::of(TargetKind::Tool, tool), arguments)
}

/// The word of a refusal; empty where there is none.
fn outcome(checked: Result<Permit, Denied>) -> &'static str {
    match checked {
        Ok(_) => "",
        Err(Denied::Rule(denial)) if denial.is_error() => "policy_error",
        Err(Denied::Rule(_)) => "denied_by_rule",
        Err(Denied::OutOfScope) => "unknown",
        Err(other) => panic!("{other}"),
    }
}

fn listed(caller: &Caller<'_>) -> Vec<String> {
    let (tools, visible) = caller.view().table(List::Tools);
    visible.iter().map(|at| tools.entries[at].exposed.to_string()).collect()
}

#[test]
fn what_is_refused_whatever_a_request_is_like_is_not_shown() {
    let cases = [
        (vec![deny(&[NOW], "")], vec![SET]),
        (vec![deny(&["*_now"], "true")], vec![SET]),
        (vec![deny(&[NOW], "false")], vec![NOW, SET]),
        (vec![deny(&[], "")], vec![]),
        (vec![allow(&[NOW], "false")], vec![SET]),
        (vec![allow(&[NOW], "false"), allow(&["*"], "")], vec![NOW, SET]),
        (vec![rule(wire::CompiledEffect::Unspecified, &[SET], "")], vec![NOW]),
        (vec![deny(&[SET], "a rule that nobody can read")], vec![NOW]),
        (vec![allow(&[], "a rule that nobody can read")], vec![]),
    ];
    let principal = principal();
    for (rules, expected) in cases {
        let (snapshot, refused) = compile(&ruled(&rules));
        assert!(refused.is_empty(), "{refused:?}");
        let caller = admitted(&snapshot, &principal);
        assert_eq!(listed(&caller), expected, "{rules:?}");
        for tool in [NOW, SET] {
            let checked = outcome(call(&caller, tool, Arguments::Of(Some("{}"))));
            assert_eq!(checked, if expected.contains(&tool) { "" } else { "unknown" }, "{rules:?}: {tool}");
        }
        // No rule concerns what stays, so nothing is asked when it is called.
        let is_conditional = |at| caller.view().is_conditional(List::Tools, at);
        assert!(!is_conditional(0) && !is_conditional(1), "{rules:?}");
        // A server all of whose tools are refused has none, whatever tools it gets.
        assert_eq!(caller.view().visible.has_tool_globs, !expected.is_empty(), "{rules:?}");
    }
}

/// A method other than calling leaves what is listed, and says why it is refused.
#[test]
fn a_rule_about_one_method_concerns_that_alone() {
    let mut of_tasks = deny(&[], "");
    of_tasks.methods = vec!["tasks/*".into()];
    let (snapshot, _) = compile(&ruled(&[of_tasks]));
    let principal = principal();
    let caller = admitted(&snapshot, &principal);
    assert_eq!(listed(&caller), [NOW, SET]);
    assert_eq!(outcome(call(&caller, NOW, Arguments::Of(None))), "");
    let about_a_task = |method| {
        let named = NamedTarget::of(TargetKind::Tool, NOW);
        outcome(super::super::check(&caller, method, &named, Arguments::Judged(None)))
    };
    assert_eq!(about_a_task(Method::TasksGet), "denied_by_rule");
    assert_eq!(about_a_task(Method::SubscriptionsListen), "");
}

/// An effect that a newer control plane knows is taken for a refusal.
#[test]
fn an_effect_of_tomorrow_refuses() {
    let mut resources = ruled(&[deny(&[NOW], "false")]);
    resources.servers[0].rules[0].effect = 99;
    let compiled = builder(&resources).compile(1);
    let principal = principal();
    assert_eq!(listed(&admitted(&compiled.snapshot, &principal)), [SET]);
    assert_eq!(compiled.unusable_count, 1);
}

#[test]
fn a_rule_that_cannot_be_read_is_told_and_counted_until_it_is_mended() {
    let mut builder = builder(&ruled(&[deny(&[NOW], "args.("), deny(&[SET], "")]));
    let compiled = builder.compile(1);
    assert_eq!((compiled.unusable.len(), compiled.unusable_count), (1, 1));
    let unusable = &compiled.unusable[0];
    assert_eq!(&*unusable.name, "servers/dev");
    assert!(
        unusable.problem.starts_with("servers/dev/rules/args.(: line 1, column "),
        "{}",
        unusable.problem
    );
    let mut send = |resources: &Resources| {
        resources.candidates().into_iter().for_each(|candidate| builder.accept(candidate).unwrap());
        builder.compile(2).unusable_count
    };
    assert_eq!(send(&ruled(&[deny(&[NOW], "")])), 0);
    assert_eq!(send(&ruled(&[deny(&[NOW], "args.(")])), 1);
    builder.remove(trunkline::edge::v1::StreamType::Server, "servers/dev");
    assert_eq!(builder.compile(3).unusable_count, 0);
}

/// An edge of before reads fields 5 to 8 alone, where there is nothing.
#[test]
fn what_a_server_with_rules_exposes_is_where_an_edge_of_before_does_not_look() {
    let resources = ruled(&[deny(&[NOW], "")]);
    let server = &resources.servers[0];
    assert!(server.tools.is_empty() && server.resources.is_empty() && server.prompts.is_empty());
    let mut twice = ruled(&[]);
    let entries = twice.servers[0].ruled.as_mut().unwrap();
    entries.tools.push(entries.tools[0].clone());
    let (_, refused) = compile(&twice);
    assert!(refused[0].reason.contains("twice"), "{refused:?}");
}

#[test]
fn arguments_are_judged_with_each_call() {
    let (snapshot, _) = compile(&ruled(&[
        deny(&[NOW], r#"args.path.startsWith("/etc/")"#),
        allow(&[SET], "args.level <= 3"),
    ]));
    let principal = principal();
    let caller = admitted(&snapshot, &principal);
    assert_eq!(listed(&caller), [NOW, SET], "some arguments are allowed");
    let cases = [
        (NOW, Some(r#"{"path":"/srv/a"}"#), ""),
        (NOW, Some(r#"{"path":"/etc/passwd"}"#), "denied_by_rule"),
        (NOW, Some(r#"{"p\u0061th":"/etc/passwd"}"#), "denied_by_rule"),
        (NOW, Some(r#"{"path":"/srv/a","path":"/etc/passwd"}"#), "policy_error"),
        (NOW, Some(r#"{"path":7}"#), "policy_error"),
        (NOW, Some("{}"), "policy_error"),
        (NOW, Some("[]"), "policy_error"),
        (NOW, Some("null"), "policy_error"),
        (NOW, None, "policy_error"),
        (SET, Some(r#"{"level":3}"#), ""),
        (SET, Some(r#"{"level":4}"#), "denied_by_rule"),
        (SET, None, "policy_error"),
    ];
    for (tool, arguments, expected) in cases {
        assert_eq!(outcome(call(&caller, tool, Arguments::Of(arguments))), expected, "{tool} {arguments:?}");
    }
}

#[test]
fn the_address_and_the_time_are_judged_with_each_call() {
    let (snapshot, _) = compile(&ruled(&[
        deny(&[NOW], r#"source.ip.inRange("10.0.0.0/8")"#),
        deny(&[SET], r#"now.getHours("UTC") < 6"#),
    ]));
    let principal = principal();
    let at = |address: Option<[u8; 4]>, now| {
        let facts = Facts { address: address.map(IpAddr::from), now };
        let caller = admit(&snapshot, &principal, "dev", facts).unwrap();
        assert_eq!(listed(&caller), [NOW, SET]);
        [NOW, SET].map(|tool| outcome(call(&caller, tool, Arguments::Of(None))))
    };
    assert_eq!(at(Some([127, 0, 0, 1]), 7 * 3_600), ["", ""]);
    assert_eq!(at(Some([10, 0, 0, 1]), 5 * 3_600), ["denied_by_rule", "denied_by_rule"]);
    assert_eq!(at(None, 7 * 3_600), ["policy_error", ""]);
}

/// Who calls decides what is listed, and callers who see the same share what is rendered.
#[test]
fn a_rule_about_callers_makes_a_view_for_each() {
    let (snapshot, _) = compile(&ruled(&[deny(&[NOW], r#"caller.name != "all""#)]));
    let (all, some) = (principal(), {
        let (uid, name) = ("uid-some".into(), "tokens/some".into());
        Arc::new(Principal::new(PrincipalKind::Token, uid, name, None))
    });
    assert_eq!(listed(&admitted(&snapshot, &all)), [NOW, SET]);
    assert_eq!(listed(&admitted(&snapshot, &some)), [""; 0]);
    assert_eq!(outcome(call(&admitted(&snapshot, &some), NOW, Arguments::Of(None))), "unknown");
    let again = admitted(&snapshot, &all);
    assert!(Arc::ptr_eq(admitted(&snapshot, &all).view(), again.view()), "it is computed once");
    // Two tokens with the same scope, of whom one is named.
    let twin = Arc::new(Principal { name: "tokens/twin".into(), ..Principal::clone(&all) });
    assert_eq!(listed(&admitted(&snapshot, &twin)), [SET]);
}

/// A decision about arguments stays with the call: as long as the rules are those that made it, and no longer where they are gone.
#[test]
fn a_decision_about_arguments_is_bound_to_the_rules_that_made_it() {
    let by_level = [deny(&[NOW], "args.level > 3")];
    let (first, _) = compile(&ruled(&by_level));
    let principal = principal();
    let caller = admitted(&first, &principal);
    let permit = call(&caller, NOW, Arguments::Of(Some(r#"{"level":3}"#))).unwrap();
    let judged = Arguments::Judged(permit.judged_by());
    assert!(permit.judged_by().is_some());
    assert_eq!(call(&caller, SET, Arguments::Of(None)).unwrap().judged_by(), None, "nothing was judged");
    assert_eq!(outcome(call(&caller, NOW, judged)), "");
    assert_eq!(outcome(call(&caller, NOW, Arguments::Judged(None))), "policy_error");
    assert_eq!(outcome(call(&caller, NOW, Arguments::Judged(Some(1)))), "policy_error");
    let task = |caller: &Caller<'_>, arguments| {
        let named = NamedTarget::of(TargetKind::Tool, NOW);
        outcome(super::super::check(caller, Method::TasksGet, &named, arguments))
    };
    assert_eq!((task(&caller, judged), task(&caller, Arguments::Judged(None))), ("", "policy_error"));
    // Another edge, or another build of the same, judges by the same.
    let (again, _) = compile(&ruled(&by_level));
    assert_eq!(outcome(call(&admitted(&again, &principal), NOW, judged)), "");
    let (other, _) = compile(&ruled(&[deny(&[NOW], "args.level > 2")]));
    assert_eq!(outcome(call(&admitted(&other, &principal), NOW, judged)), "policy_error");
    let (none, _) = compile(&ruled(&[]));
    assert_eq!(outcome(call(&admitted(&none, &principal), NOW, judged)), "");
}

/// What was judged at one time cannot be judged again at another without its arguments.
#[test]
fn a_decision_about_arguments_and_the_time_needs_the_arguments() {
    let (snapshot, _) = compile(&ruled(&[deny(&[NOW], r#"args.level > 3 && now.getHours("UTC") < 6"#)]));
    let principal = principal();
    let at = |hour: u64| admit(&snapshot, &principal, "dev", Facts { now: hour * 3_600, ..facts() }).unwrap();
    let permit = call(&at(7), NOW, Arguments::Of(Some(r#"{"level":4}"#))).unwrap();
    let judged = Arguments::Judged(permit.judged_by());
    assert_eq!(outcome(call(&at(7), NOW, judged)), "");
    assert_eq!(outcome(call(&at(5), NOW, judged)), "policy_error");
}

/// A call that runs keeps its arguments, so that it is judged again by whatever rules there are then.
#[test]
fn a_running_call_is_judged_again_with_its_arguments() {
    let principal = principal();
    let mut builder = builder(&ruled(&[deny(&[NOW], "args.level > 3")]));
    let first = builder.compile(1).snapshot;
    let caller = admitted(&first, &principal);
    let permits = Rc::new(ActivePermits::default());
    let hold = |level: u8| {
        let arguments = format!(r#"{{"level":{level}}}"#);
        permits.hold(caller, &call(&caller, NOW, Arguments::Of(Some(&arguments))).unwrap())
    };
    let (low, high, other) =
        (hold(1), hold(3), permits.hold(caller, &call(&caller, SET, Arguments::Of(None)).unwrap()));
    let mut after = |rules: &[wire::CompiledRule]| {
        let resources = ruled(rules);
        resources.candidates().into_iter().for_each(|candidate| builder.accept(candidate).unwrap());
        let snapshot = builder.compile(2).snapshot;
        permits.review(&snapshot, true, 1);
        [&low, &high, &other].map(ActivePermit::is_withdrawn)
    };
    assert_eq!(after(&[deny(&[NOW], "args.level > 4")]), [false; 3]);
    assert_eq!(after(&[deny(&[NOW], "args.level > 2")]), [false, true, false]);
    // Of what was called before there were rules about its arguments, those are gone.
    assert_eq!(after(&[deny(&[SET], "args.level > 2")]), [false, true, true]);
}

/// The rules that take something away from the result of a call.
fn masking(permit: &Permit) -> Vec<String> {
    permit.masks().map(|masks| masks.iter().map(|mask| mask.rule.to_string()).collect()).unwrap_or_default()
}

/// What masks a result, or holds a call back, goes with the permit, and hides nothing.
#[test]
fn masks_and_approvals_go_with_the_permit() {
    let rules = [mask(&[NOW], ""), mask(&[], "args.level > 3"), approve(&[], "args.level > 4")];
    let (snapshot, _) = compile(&ruled(&rules));
    let principal = principal();
    let caller = admitted(&snapshot, &principal);
    assert_eq!(listed(&caller), [NOW, SET]);
    let [always, high] = ["always", "args.level > 3"].map(|id| format!("servers/dev/rules/{id}"));
    let at = |tool: &str, level: u8| {
        let permit = call(&caller, tool, Arguments::Of(Some(&format!(r#"{{"level":{level}}}"#)))).unwrap();
        (masking(&permit), permit.approval().map(|rule| rule.id.to_string()))
    };
    assert_eq!(at(NOW, 3), (vec![always.clone()], None));
    assert_eq!(at(SET, 3), (vec![], None));
    let held = Some("servers/dev/rules/args.level > 4".to_owned());
    assert_eq!(at(NOW, 5), (vec![always.clone(), high.clone()], held));
    assert_eq!(outcome(call(&caller, NOW, Arguments::Of(None))), "policy_error");
    let (plain, _) = compile(&ruled(&[deny(&[SET], "args.level > 3")]));
    let permit = call(&admitted(&plain, &principal), NOW, Arguments::Of(None)).unwrap();
    assert!(permit.masks().is_none() && permit.approval().is_none());
}

/// Where the arguments of a call are gone, all is masked that may have to be, and nothing is held back that began.
#[test]
fn what_was_judged_before_is_masked_where_it_may_have_to_be() {
    let (snapshot, _) = compile(&ruled(&[mask(&[NOW], "args.level > 3"), approve(&[NOW], "")]));
    let principal = principal();
    let caller = admitted(&snapshot, &principal);
    let permit = call(&caller, NOW, Arguments::Of(Some(r#"{"level":3}"#))).unwrap();
    assert_eq!((masking(&permit).len(), permit.approval().is_some()), (0, true));
    let named = NamedTarget::of(TargetKind::Tool, NOW);
    for judged in [permit.judged_by(), None, Some(1)] {
        for method in [Method::ToolsCall, Method::TasksGet] {
            let later = super::super::check(&caller, method, &named, Arguments::Judged(judged)).unwrap();
            assert_eq!((masking(&later).len(), later.approval().is_some()), (1, false), "{judged:?}");
        }
    }
}

/// Of a call that runs, parts may have been sent already.
#[test]
fn a_running_call_ends_where_its_result_is_masked_more_than_when_it_began() {
    let principal = principal();
    let mut builder = builder(&ruled(&[mask(&[NOW], "args.level > 3")]));
    let first = builder.compile(1).snapshot;
    let caller = admitted(&first, &principal);
    let permits = Rc::new(ActivePermits::default());
    let hold = |level: u8| {
        let arguments = format!(r#"{{"level":{level},"more":"{}"}}"#, "x".repeat(70_000));
        permits.hold(caller, &call(&caller, NOW, Arguments::Of(Some(&arguments))).unwrap())
    };
    let (low, high) = (hold(3), hold(4));
    let mut after = |rules: &[wire::CompiledRule]| {
        let resources = ruled(rules);
        resources.candidates().into_iter().for_each(|candidate| builder.accept(candidate).unwrap());
        permits.review(&builder.compile(2).snapshot, true, 1);
        [&low, &high].map(ActivePermit::is_withdrawn)
    };
    assert_eq!(after(&[mask(&[NOW], "args.level > 3"), deny(&[SET], "")]), [false, false]);
    assert_eq!(after(&[mask(&[NOW], "args.level > 3"), approve(&[NOW], "")]), [false, false]);
    assert_eq!(after(&[]), [false, false]);
    assert_eq!(after(&[mask(&[NOW], "args.level > 2")]), [true, true]);
}

/// Time alone changes what a rule comes to: no snapshot says so.
#[test]
fn a_running_call_ends_when_its_time_is_over() {
    let (snapshot, _) = compile(&ruled(&[deny(&[NOW], r#"now.getHours("UTC") >= 6"#)]));
    let principal = principal();
    let caller = admit(&snapshot, &principal, "dev", Facts { now: 6 * 3_600 - 1, ..facts() }).unwrap();
    let permits = Rc::new(ActivePermits::default());
    let active = permits.hold(caller, &call(&caller, NOW, Arguments::Of(None)).unwrap());
    permits.review(&snapshot, true, 6 * 3_600 - 1);
    assert!(!active.is_withdrawn());
    permits.review(&snapshot, true, 6 * 3_600);
    assert!(active.is_withdrawn());
}

/// Within a minute no clock that rules read goes on, so nothing is judged again: arguments are long, and calls many.
#[test]
fn a_running_call_is_judged_again_once_a_minute() {
    let (snapshot, _) = compile(&ruled(&[deny(&[NOW], r#"now.getHours("UTC") >= 6"#)]));
    let principal = principal();
    let at = |now| admit(&snapshot, &principal, "dev", Facts { now, ..facts() }).unwrap();
    let permit = call(&at(6 * 3_600 - 1), NOW, Arguments::Of(None)).unwrap();
    let permits = Rc::new(ActivePermits::default());
    // As if it had been judged in this minute.
    let active = permits.hold(at(6 * 3_600), &permit);
    permits.review(&snapshot, true, 6 * 3_600 + 59);
    assert!(!active.is_withdrawn());
    permits.review(&snapshot, true, 6 * 3_600 + 60);
    assert!(active.is_withdrawn());
}

/// Refusals by rules say what the rule says, and no more.
#[test]
fn a_refusal_says_what_the_rule_says() {
    let (snapshot, _) = compile(&ruled(&[deny(&[NOW], "args.level > 3")]));
    let principal = principal();
    let caller = admitted(&snapshot, &principal);
    let refused = |arguments: &str| {
        let denied = call(&caller, NOW, Arguments::Of(Some(arguments))).unwrap_err();
        denied.of_target(&NamedTarget::of(TargetKind::Tool, NOW))
    };
    let told = || Box::from("ask the owner");
    assert_eq!(refused(r#"{"level":4}"#), Failure::Rule { told: told(), undecided: false });
    assert_eq!(refused("{}"), Failure::Rule { told: told(), undecided: true });
}
