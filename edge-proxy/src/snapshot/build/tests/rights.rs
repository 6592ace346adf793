//! Rights: of tokens with conditions and ceilings, and of people, who are in no snapshot.

use std::collections::BTreeSet;

use mcp::method::Method;
use trunkline::edge::v1::grant::Kind;

use super::*;
use crate::snapshot::{BearerGrants, GrantPair};

/// Puts these in the place of their earlier versions, and compiles.
fn change(builder: &mut Builder, resources: &Resources) -> Compiled {
    for candidate in resources.candidates() {
        builder.accept(candidate).expect("it can be used");
    }
    builder.compile(2)
}

/// `tokens/all` with what it has by this field alone.
fn with_access(change: impl FnOnce(&mut wire::Access)) -> Resources {
    let mut fixture = fixture();
    let wire::Token { servers, tools, resources, prompts, access, .. } = &mut fixture.tokens[0];
    let mut given = wire::Access {
        servers: std::mem::take(servers),
        tools: std::mem::take(tools),
        resources: std::mem::take(resources),
        prompts: std::mem::take(prompts),
        ..wire::Access::default()
    };
    change(&mut given);
    *access = Some(given);
    fixture
}

fn role(gid: &str, may_call: bool, every_server: bool) -> wire::Grant {
    let kind = Some(Kind::Role(wire::RoleGrant { may_call, every_server }));
    wire::Grant { name: format!("roles/{gid}"), gid: gid.into(), kind }
}

fn team(gid: &str, servers: &[&str], tools: &[&str]) -> wire::Grant {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let kind = wire::TeamGrant { servers: texts(servers), tools: texts(tools), ..wire::TeamGrant::default() };
    wire::Grant { name: format!("teams/{gid}"), gid: gid.into(), kind: Some(Kind::Team(kind)) }
}

fn person(uid: &str, epoch: i64, pairs: &[[&str; 2]]) -> Arc<BearerGrants> {
    let pair = |[role, team]: &[&str; 2]| GrantPair { role: (*role).into(), team: (*team).into() };
    Arc::new(BearerGrants::new(uid.into(), epoch, pairs.iter().map(pair).collect()))
}

fn withdrawal(uid: &str, epoch: i64, lost: &[(i64, [&str; 2])]) -> wire::Withdrawal {
    let pair = |[role, team]: [&str; 2]| wire::GrantPair { role: role.into(), team: team.into() };
    let lost =
        lost.iter().map(|(epoch, lost)| wire::WithdrawnPair { epoch: *epoch, pair: Some(pair(*lost)) });
    wire::Withdrawal { name: format!("withdrawals/{uid}"), uid: uid.into(), epoch, pairs: lost.collect() }
}

/// The names of the tools that somebody may call at `dev`; `None` where they may not even know of it.
fn callable(snapshot: &Snapshot, of: &Arc<BearerGrants>) -> Option<BTreeSet<String>> {
    let scope = snapshot.grants.scope(of).expect("the bearer is valid");
    let view = snapshot.servers.views("dev").unwrap().view(scope).ok()?;
    let names = view.visible.tools.iter().map(|at| view.server.tools.entries[at].exposed.to_string());
    Some(names.collect())
}

fn some(names: &[&str]) -> Option<BTreeSet<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn what_the_fields_before_say_counts_for_nothing_beside_access() {
    let mut fixture = with_access(|access| access.tools = vec!["time_now".into()]);
    fixture.tokens[0].tools = vec!["*".into()];
    fixture.tokens[0].servers = vec!["*".into()];
    let (snapshot, _) = compile(&fixture);
    let view = view(&snapshot, "uid-all", "dev").unwrap();
    assert_eq!(view.visible.tools.count(), 1);
    let nothing = with_access(|access| *access = wire::Access::default());
    let (snapshot, _) = compile(&nothing);
    assert!(super::view(&snapshot, "uid-all", "dev").is_none());
    assert!(snapshot.tokens["uid-all"].conditions.is_none(), "what has no conditions costs nothing");
}

#[test]
fn what_no_method_may_use_is_in_no_list() {
    let visible = |methods: &[&str]| {
        let mut fixture =
            with_access(|access| access.methods = methods.iter().map(|method| (*method).into()).collect());
        fixture.resources.push(wire::Resource {
            name: "upstreams/time/resources/r".into(),
            uri: "x:r".into(),
            definition_json: r#"{"uri":"x:r","name":"r"}"#.into(),
            ..Default::default()
        });
        fixture.servers[0].resources.push(entry("x:r", "upstreams/time/resources/r"));
        let (snapshot, _) = compile(&fixture);
        let view = view(&snapshot, "uid-all", "dev").unwrap();
        [view.visible.tools.count(), view.visible.resources.count(), usize::from(view.visible.has_tool_globs)]
    };
    assert_eq!(visible(&[]), [2, 1, 1], "no list is every method");
    assert_eq!(visible(&["tools/call"]), [2, 0, 1]);
    assert_eq!(visible(&["tools/list", "resources/*"]), [0, 1, 0]);
    assert_eq!(visible(&["tools/*", "nonsense"]), [2, 0, 1]);
    assert_eq!(visible(&["nonsense"]), [0, 0, 0]);
}

#[test]
fn what_cannot_be_evaluated_denies_and_is_reported_once_and_never_refused() {
    let limit = |id: &str, text: &str| wire::Limit { id: id.into(), text: text.into() };
    let limits = vec![limit("r0", "5/s"), limit("q0", "5/s"), limit("x0", "5/s")];
    let fixture = with_access(|access| {
        access.servers.push("dev".into());
        access.methods = vec!["tools/*".into(), "tool/call".into()];
        access.from = vec!["10.1.0.0/8".into()];
        access.windows = vec!["Mon-Fri 08:00-18:00 Europe/Atlantis".into()];
        access.limits = limits;
    });
    let mut builder = builder(&fixture);
    let compiled = builder.compile(1);
    let fields: Vec<String> = compiled
        .unusable
        .iter()
        .map(|unusable| {
            assert_eq!(&*unusable.name, "tokens/all");
            unusable.problem.split(':').next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        fields,
        ["methods[1]", "from[0]", "windows[0]", "limits[\"q0\"]", "limits[\"x0\"]", "servers[1]"]
    );
    assert_eq!(compiled.unusable_count, 1);
    let conditions = compiled.snapshot.tokens["uid-all"].conditions.as_ref().unwrap();
    let anywhere = "10.1.2.3".parse().unwrap();
    assert!(!conditions.from.as_ref().unwrap().contains(anywhere), "no range is not every address");
    assert!(!conditions.times.as_ref().unwrap().at(1_000).0, "no window is not always");
    assert!(conditions.methods.contains(Method::ToolsCall));
    assert!(!conditions.methods.contains(Method::ResourcesRead) && conditions.methods.contains(Method::Ping));

    assert_eq!(builder.compile(2).unusable, [], "it is told once");
    let mended = change(&mut builder, &with_access(|access| access.from = vec!["10.0.0.0/8".into()]));
    assert_eq!((mended.unusable, mended.unusable_count), (vec![], 0));

    let mut grants = super::fixture();
    let twin = wire::Grant { name: "teams/twin".into(), ..team("t", &["servers/dev"], &["*"]) };
    let unknown = wire::Grant { name: "roles/new".into(), gid: "new".into(), kind: None };
    grants.grants = vec![role("r", true, false), unknown, team("t", &["dev"], &["*"]), twin];
    let mut builder = super::builder(&grants);
    let compiled = builder.compile(1);
    let names: Vec<&str> = compiled.unusable.iter().map(|unusable| &*unusable.name).collect();
    assert_eq!((names, compiled.unusable_count), (vec!["roles/new", "teams/t", "teams/twin"], 3));
    let held = callable(&compiled.snapshot, &person("u", 0, &[["r", "t"], ["new", ""]]));
    assert_eq!(held, None, "neither of two that have one gid grants anything");
}

#[test]
fn a_person_may_call_what_their_pairs_give() {
    let mut fixture = fixture();
    fixture.grants = vec![
        role("call", true, false),
        role("look", false, false),
        role("admin", true, true),
        role("auditor", false, true),
        team("now", &["servers/dev"], &["*_now"]),
        team("set", &[], &["*_set"]),
        team("else", &["servers/other"], &["*"]),
    ];
    let now_and_set = some(&["time_now", "time_set"]);
    let cases: [(&[[&str; 2]], _); 16] = [
        (&[], None),
        (&[["call", ""]], None),
        (&[["look", "now"]], None),
        (&[["call", "now"]], some(&["time_now"])),
        (&[["call", "else"]], None),
        (&[["call", "set"]], some(&["time_set"])),
        (&[["call", "now"], ["call", "set"]], now_and_set.clone()),
        (&[["look", "now"], ["call", ""]], None),
        (&[["look", "now"], ["call", "else"]], None),
        (&[["admin", ""]], now_and_set.clone()),
        (&[["admin", "else"]], None),
        (&[["auditor", ""]], None),
        (&[["auditor", ""], ["call", ""]], now_and_set.clone()),
        (&[["gone", "now"]], None),
        (&[["call", "gone"]], None),
        (&[["gone", "now"], ["call", ""]], None),
    ];
    fixture.servers[0].team_gid = "set".into();
    let (snapshot, refusals) = compile(&fixture);
    assert_eq!(refusals, []);
    for (pairs, expected) in cases {
        assert_eq!(callable(&snapshot, &person("u", 0, pairs)), expected, "{pairs:?}");
    }

    fixture.servers[0].owner_uid = "u".into();
    let (snapshot, _) = compile(&fixture);
    assert_eq!(callable(&snapshot, &person("u", 0, &[["call", ""]])), now_and_set);
    assert_eq!(callable(&snapshot, &person("u", 0, &[["look", ""]])), None, "an owner who may not call");
    assert_eq!(callable(&snapshot, &person("v", 0, &[["call", ""]])), None);

    fixture.servers[0].public = true;
    let (snapshot, _) = compile(&fixture);
    assert_eq!(callable(&snapshot, &person("v", 0, &[["call", "else"]])), now_and_set);
    assert_eq!(callable(&snapshot, &person("v", 0, &[["look", "now"]])), None);
}

#[test]
fn what_was_withdrawn_is_lost_to_bearers_of_before() {
    let mut fixture = fixture();
    fixture.grants =
        vec![role("call", true, false), role("also", true, false), team("t", &["servers/dev"], &["*"])];
    fixture.withdrawals =
        vec![withdrawal("u", 0, &[(5, ["call", "t"])]), withdrawal("w", 0, &[(5, ["", "t"])])];
    let mut builder = builder(&fixture);
    let snapshot = builder.compile(1).snapshot;
    let all = some(&["time_now", "time_set"]);
    let cases: [(&str, i64, &[[&str; 2]], bool); 7] = [
        ("u", 4, &[["call", "t"]], false),
        ("u", 5, &[["call", "t"]], true),
        ("u", 4, &[["call", "t"], ["also", "t"]], true),
        ("u", 4, &[["also", "t"]], true),
        ("v", 4, &[["call", "t"]], true),
        ("w", 4, &[["call", "t"], ["also", "t"]], false),
        ("w", 5, &[["also", "t"]], true),
    ];
    for (uid, epoch, pairs, left) in cases {
        let expected = all.clone().filter(|_| left);
        assert_eq!(callable(&snapshot, &person(uid, epoch, pairs)), expected, "{uid} {epoch} {pairs:?}");
    }
    let mut nameless = withdrawal("u", 6, &[]);
    nameless.uid.clear();
    fixture.withdrawals = vec![nameless];
    let snapshot = change(&mut builder, &fixture).snapshot;
    assert!(snapshot.grants.scope(&person("u", 5, &[["call", "t"]])).is_none(), "the bearer is not valid");
    assert!(snapshot.grants.scope(&person("u", 6, &[["call", "t"]])).is_some());
    assert!(snapshot.grants.scope(&person("v", 0, &[["call", "t"]])).is_some());
    builder.remove(StreamType::Withdrawal, "withdrawals/u");
    let snapshot = builder.compile(3).snapshot;
    assert!(snapshot.grants.scope(&person("u", 5, &[["call", "t"]])).is_some());
}

#[test]
fn people_with_the_same_rights_share_a_scope_which_stays_while_others_change() {
    let mut fixture = fixture();
    fixture.grants =
        vec![role("call", true, false), team("t", &["servers/dev"], &["*"]), team("s", &[], &["*"])];
    let mut builder = builder(&fixture);
    let first = builder.compile(1).snapshot;
    let (ann, bob) = (person("a", 0, &[["call", "t"]]), person("b", 7, &[["call", "t"]]));
    let scope = |snapshot: &Snapshot, of| Arc::clone(snapshot.grants.scope(of).unwrap());
    assert!(Arc::ptr_eq(&scope(&first, &ann), &scope(&first, &bob)));
    let again = person("a", 0, &[["call", "t"], ["call", "t"]]);
    assert!(Arc::ptr_eq(&scope(&first, &ann), &scope(&first, &again)), "a renewed bearer");
    callable(&first, &ann);
    let seen = Arc::clone(first.servers.views("dev").unwrap().view(&scope(&first, &ann)).unwrap());

    // Another team changes, and somebody else has lost something: the view is the same, and known already.
    fixture.grants[2] = team("s", &[], &["x"]);
    fixture.withdrawals = vec![withdrawal("b", 9, &[])];
    let second = change(&mut builder, &fixture).snapshot;
    let same = scope(&second, &ann);
    assert!(Arc::ptr_eq(&same, &scope(&first, &ann)));
    assert!(Arc::ptr_eq(&seen, second.servers.views("dev").unwrap().computed(&same).unwrap()));
    assert!(second.grants.scope(&bob).is_none());

    // The server changes: the view of who used it is computed before it is asked for.
    fixture.tools[1] = tool("time", "set", r#"{"name":"set","title":"Set"}"#);
    let compiled = change(&mut builder, &fixture);
    compiled.views_in_use.compute();
    let third = compiled.snapshot;
    let ready = third.servers.views("dev").unwrap().computed(&same).expect("it was in use");
    assert!(!Arc::ptr_eq(&seen, ready));

    // It becomes another team's: they no longer see it.
    fixture.grants[1] = team("t", &[], &["*"]);
    let fourth = change(&mut builder, &fixture).snapshot;
    assert_eq!(callable(&fourth, &ann), None);
    fixture.servers[0].team_gid = "t".into();
    let fifth = change(&mut builder, &fixture).snapshot;
    assert_eq!(callable(&fifth, &ann), some(&["time_now", "time_set"]));
    fixture.servers[0].team_gid = "s".into();
    let sixth = change(&mut builder, &fixture).snapshot;
    assert_eq!(callable(&sixth, &ann), None, "a view that was in use is not kept");
}

#[test]
fn scopes_that_nobody_has_are_dropped() {
    let mut fixture = fixture();
    fixture.grants = vec![role("call", true, false), team("t", &["servers/dev"], &["*"])];
    let mut builder = builder(&fixture);
    let first = builder.compile(1).snapshot;
    let before = builder.scopes.scopes().all().len();
    callable(&first, &person("u", 0, &[["call", "t"]]));
    assert_eq!(builder.scopes.scopes().all().len(), before + 1);
    drop(first);
    // They do not come again.
    for round in 0..3 {
        fixture.withdrawals = vec![withdrawal("other", round + 1, &[])];
        drop(change(&mut builder, &fixture));
    }
    builder.compile(9);
    assert_eq!(builder.scopes.scopes().all().len(), before);
}

#[test]
fn a_ceiling_cuts_a_token_and_follows_what_its_owner_holds() {
    let ceiling = |owner: &str, pairs: &[[&str; 2]]| {
        let pair = |[role, team]: &[&str; 2]| wire::GrantPair { role: (*role).into(), team: (*team).into() };
        wire::Ceiling { owner_uid: owner.into(), pairs: pairs.iter().map(pair).collect() }
    };
    let mut builder = builder(&fixture());
    let mut tools = |owner: &str, pairs: &[[&str; 2]], change_more: &dyn Fn(&mut Resources)| {
        let mut changed = with_access(|access| access.ceiling = Some(ceiling(owner, pairs)));
        changed.grants = vec![role("call", true, false), team("t", &["servers/dev"], &["*_now", "x"])];
        change_more(&mut changed);
        let snapshot = change(&mut builder, &changed).snapshot;
        view(&snapshot, "uid-all", "dev").map(|view| view.visible.tools.count())
    };
    let none = |_: &mut Resources| {};
    assert_eq!(tools("u", &[], &none), None, "an owner without rights");
    assert_eq!(tools("u", &[["call", "t"]], &none), Some(1));
    assert_eq!(tools("", &[["", "t"]], &none), Some(1), "a team's own");
    assert_eq!(tools("", &[["", ""]], &none), None, "nobody's role in no team");
    assert_eq!(tools("u", &[["gone", "t"]], &none), None);
    // It is the grants and servers alone that change.
    assert_eq!(tools("u", &[["call", "t"]], &|all| all.grants[1] = team("t", &["*"], &["*"])), Some(2));
    assert_eq!(tools("u", &[["call", "t"]], &|all| all.grants[0] = role("call", false, false)), None);
    assert_eq!(tools("u", &[["call", ""]], &none), None);
    assert_eq!(tools("u", &[["call", ""]], &|all| all.servers[0].owner_uid = "u".into()), Some(2));
    assert_eq!(tools("u", &[["call", ""]], &none), None, "it has another owner again");
    assert_eq!(tools("u", &[["call", ""]], &|all| all.servers[0].public = true), Some(2));
    // What a token lists narrows it all the same.
    let narrow = |all: &mut Resources| {
        all.tokens[0].access.as_mut().unwrap().tools = vec!["time_set".into()];
    };
    assert_eq!(tools("u", &[["call", "t"]], &narrow), Some(0));
}
