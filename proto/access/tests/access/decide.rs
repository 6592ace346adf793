//! Decisions, one by one and over random worlds.

use access::decide::{Decision, Ground, Reason, Request, decide};
use access::world::{Conditions, Entry, Held, Pair, Role, Scope, Server, Token, World};
use proptest::prelude::*;

pub(crate) fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn entries(list: &[&str]) -> Vec<Entry> {
    list.iter().map(|name| Entry { name: (*name).to_owned(), ..Entry::default() }).collect()
}

pub(crate) fn scope(servers: &[&str], tools: &[&str], resources: &[&str], prompts: &[&str]) -> Scope {
    Scope {
        servers: names(servers),
        tools: names(tools),
        resources: names(resources),
        prompts: names(prompts),
    }
}

pub(crate) fn held(name: &str, uid: &str, pairs: &[(&str, &str)]) -> Held {
    let pairs = pairs.iter().map(|(role, team)| Pair { role: (*role).to_owned(), team: (*team).to_owned() });
    Held { name: name.to_owned(), uid: uid.to_owned(), pairs: pairs.collect() }
}

/// A server of a team, with two tools, a resource, a template and a prompt; and who may use it.
pub(crate) fn world() -> World {
    let dev = Server {
        team: "teams/core".into(),
        tools: entries(&["dev_list", "dev_write"]),
        resources: entries(&["memo://a"]),
        templates: entries(&["memo://{id}"]),
        prompts: entries(&["review"]),
        ..Server::default()
    };
    let ci = Token { scope: scope(&["servers/dev"], &["dev_*"], &["*"], &[]), ..Token::default() };
    World {
        servers: [("servers/dev".into(), dev), ("servers/other".into(), Server::default())].into(),
        tokens: [("tokens/ci".into(), ci)].into(),
        people: [
            ("users/ann".into(), held("users/ann", "u-ann", &[("roles/developer", "teams/core")])),
            ("users/bob".into(), held("users/bob", "u-bob", &[("roles/viewer", "teams/core")])),
            ("users/eve".into(), held("users/eve", "u-eve", &[("roles/developer", "teams/web")])),
            ("users/root".into(), held("users/root", "u-root", &[("roles/administrator", "")])),
        ]
        .into(),
        roles: [
            ("roles/developer".into(), Role { may_call: true, every_server: false }),
            ("roles/viewer".into(), Role::default()),
            ("roles/administrator".into(), Role { may_call: true, every_server: true }),
        ]
        .into(),
        teams: [
            ("teams/core".into(), scope(&[], &["dev_list"], &["*"], &["*"])),
            ("teams/web".into(), scope(&[], &["*"], &["*"], &["*"])),
        ]
        .into(),
    }
}

/// Friday, 4 December 2026, 09:00 UTC.
pub(crate) const FRIDAY: i64 = 1_796_374_800;

pub(crate) fn call(principal: &str, tool: &str) -> Request {
    Request {
        principal: principal.into(),
        server: "servers/dev".into(),
        method: "tools/call".into(),
        target: Some(tool.into()),
        address: Some([10, 1, 2, 3].into()),
        now_s: FRIDAY,
        ..Request::default()
    }
}

fn refused(world: &World, request: &Request) -> Option<Reason> {
    decide(world, request).refused
}

#[test]
fn a_token_may_do_what_its_scope_says() {
    let world = world();
    assert_eq!(refused(&world, &call("tokens/ci", "dev_write")), None);
    assert_eq!(refused(&world, &call("tokens/ci", "dev_delete")), Some(Reason::UnknownTarget));
    assert_eq!(refused(&world, &call("tokens/gone", "dev_write")), Some(Reason::UnknownPrincipal));
    let of = |server: &str, method: &str, target: Option<&str>| Request {
        server: server.into(),
        method: method.into(),
        target: target.map(str::to_owned),
        ..call("tokens/ci", "")
    };
    for (server, method, target, expected) in [
        ("servers/gone", "tools/list", None, Some(Reason::UnknownServer)),
        ("servers/other", "tools/list", None, Some(Reason::ServerNotGranted)),
        ("servers/dev", "tools/list", None, None),
        ("servers/dev", "prompts/get", Some("review"), Some(Reason::TargetNotGranted)),
        ("servers/dev", "completion/complete", Some("review"), Some(Reason::TargetNotGranted)),
        ("servers/dev", "completion/complete", Some("memo://{id}"), None),
        ("servers/dev", "resources/read", Some("memo://a"), None),
        ("servers/dev", "resources/read", Some("memo://b"), Some(Reason::UnknownTarget)),
    ] {
        assert_eq!(refused(&world, &of(server, method, target)), expected, "{server} {method} {target:?}");
    }
}

#[test]
fn a_uri_is_granted_by_its_template_or_as_it_is() {
    let mut world = world();
    let read = |uri: &str| Request {
        method: "resources/read".into(),
        templates: names(&["memo://{id}"]),
        ..call("tokens/ci", uri)
    };
    for (globs, uri, expected) in [
        (&["*"][..], "memo://b", None),
        (&["memo://{id}"], "memo://b", None),
        (&["memo://b"], "memo://b", None),
        (&["memo://b*"], "memo://b?x", None),
        (&["*x"], "memo://b?x", Some(Reason::TargetNotGranted)),
        (&["*?x"], "memo://b?x", None),
        (&["memo://c"], "memo://b", Some(Reason::TargetNotGranted)),
        (&[], "memo://b", Some(Reason::TargetNotGranted)),
    ] {
        world.tokens.get_mut("tokens/ci").unwrap().scope.resources = names(globs);
        assert_eq!(refused(&world, &read(uri)), expected, "{globs:?} {uri}");
    }
}

#[test]
fn conditions_are_looked_at_in_their_order() {
    let mut world = world();
    let conditions = Conditions {
        methods: names(&["tools/*"]),
        from: names(&["192.0.2.0/24", "10.0.0.0/8"]),
        not_before_s: Some(FRIDAY),
        windows: names(&["Mon-Fri 08:00-18:00 Europe/Berlin"]),
        limits: names(&["5/s"]),
    };
    let token = world.tokens.get_mut("tokens/ci").unwrap();
    *token = Token { conditions, expires_s: Some(FRIDAY + 86_400), ..token.clone() };
    let request = call("tokens/ci", "dev_write");
    let held: Vec<_> =
        decide(&world, &request).grounds.into_iter().map(|ground| (ground.field, ground.holds)).collect();
    let expected = [
        "expireTime",
        "conditions.notBefore",
        "conditions.from[1]",
        "conditions.windows[0]",
        "conditions.methods[0]",
        "scope.servers[0]",
        "tools",
        "scope.tools[0]",
    ];
    assert_eq!(held, expected.map(|field| (field.to_owned(), true)));

    let with = |change: &dyn Fn(&mut Token), request: Request| {
        let mut world = world.clone();
        change(world.tokens.get_mut("tokens/ci").unwrap());
        let decision = decide(&world, &request);
        let last =
            decision.grounds.last().map(|ground| (ground.field.clone(), ground.holds, ground.note.clone()));
        (decision.refused.map(Reason::as_str), last.unwrap())
    };
    let ground = |field: &str, note: &str| (field.to_owned(), false, note.to_owned());
    let own = |_: &mut Token| {};
    let late = Request { now_s: FRIDAY + 86_400, ..request.clone() };
    let early = Request { now_s: FRIDAY - 1, ..request.clone() };
    let elsewhere = Request { address: Some([192, 168, 0, 1].into()), ..request.clone() };
    let mapped = Request { address: Some("::ffff:10.9.9.9".parse().unwrap()), ..request.clone() };
    let unknown = Request { address: None, ..request.clone() };
    let evening = Request { now_s: FRIDAY + 9 * 3_600, ..request.clone() };
    let prompt = Request { method: "prompts/get".into(), ..request.clone() };
    assert_eq!(
        with(&|token| token.revoked = true, late.clone()),
        (Some("revoked"), ground("revokeTime", "it is revoked, for ever"))
    );
    assert_eq!(with(&own, late), (Some("expired"), ground("expireTime", "it is 2026-12-05T09:00:00Z")));
    assert_eq!(
        with(&|token| token.suspended = true, request.clone()),
        (Some("suspended"), ground("suspendTime", "its owner is disabled"))
    );
    assert_eq!(
        with(&own, early),
        (Some("not_yet_valid"), ground("conditions.notBefore", "it is 2026-12-04T08:59:59Z"))
    );
    assert_eq!(
        with(&own, elsewhere),
        (Some("address_not_allowed"), ground("conditions.from[1]", "the client is 192.168.0.1"))
    );
    assert_eq!(with(&own, unknown).0, Some("address_not_allowed"));
    assert_eq!(with(&own, mapped).0, None);
    assert_eq!(
        with(&own, evening),
        (Some("outside_time_window"), ground("conditions.windows[0]", "Fri 19:00"))
    );
    assert_eq!(
        with(&own, prompt),
        (Some("method_not_granted"), ground("conditions.methods[0]", "it is not prompts/get"))
    );
    let listing = Request { method: "tools/list".into(), target: None, ..request.clone() };
    assert_eq!(with(&own, listing).0, None);
    let only_lists =
        |token: &mut Token| token.conditions.methods = names(&["tools/list", "completion/complete"]);
    let completing = Request {
        method: "completion/complete".into(),
        target: Some("memo://{id}".into()),
        ..request.clone()
    };
    assert_eq!(
        with(&only_lists, completing).0,
        Some("target_not_granted"),
        "what cannot be read is not shown"
    );
    for unreadable in [
        (&|token: &mut Token| token.conditions.from = names(&["10.0.0.1/8"])) as &dyn Fn(&mut Token),
        &|token| token.conditions.windows = names(&["always"]),
        &|token| token.conditions.methods = names(&["toolz"]),
        &|token| token.conditions.limits = names(&["0/s"]),
    ] {
        assert!(with(unreadable, request.clone()).0.is_some(), "what cannot be read allows nothing");
    }
}

#[test]
fn people_may_do_what_their_roles_and_teams_give() {
    let mut world = world();
    for (who, tool, expected) in [
        ("users/ann", "dev_list", None),
        ("users/ann", "dev_write", Some(Reason::TargetNotGranted)),
        ("users/bob", "dev_list", Some(Reason::ServerNotGranted)),
        ("users/eve", "dev_list", Some(Reason::ServerNotGranted)),
        ("users/root", "dev_write", None),
        ("users/nobody", "dev_list", Some(Reason::UnknownPrincipal)),
    ] {
        assert_eq!(refused(&world, &call(who, tool)), expected, "{who} {tool}");
    }
    assert_eq!(decide(&world, &call("users/ann", "dev_list")).through, ["teams/core as developer"]);
    let own = |world: &mut World, change: &dyn Fn(&mut Server)| {
        change(world.servers.get_mut("servers/dev").unwrap())
    };
    own(&mut world, &|dev| dev.owner_uid = "u-bob".into());
    assert_eq!(
        refused(&world, &call("users/bob", "dev_list")),
        Some(Reason::ServerNotGranted),
        "who may call nothing"
    );
    own(&mut world, &|dev| dev.owner_uid = "u-eve".into());
    assert_eq!(refused(&world, &call("users/eve", "dev_write")), None, "the owner");
    own(&mut world, &|dev| {
        *dev = Server { owner_uid: String::new(), team: String::new(), public: true, ..dev.clone() }
    });
    assert_eq!(refused(&world, &call("users/eve", "dev_write")), None, "it is public");
    assert_eq!(refused(&world, &call("users/bob", "dev_write")), Some(Reason::ServerNotGranted));
    own(&mut world, &|dev| dev.public = false);
    assert_eq!(refused(&world, &call("users/eve", "dev_write")), Some(Reason::ServerNotGranted));
    world.teams.get_mut("teams/web").unwrap().servers = names(&["servers/dev"]);
    assert_eq!(refused(&world, &call("users/eve", "dev_write")), None, "a team that has it");
    world.teams.clear();
    assert_eq!(
        refused(&world, &call("users/eve", "dev_write")),
        Some(Reason::ServerNotGranted),
        "a team that is gone"
    );
}

#[test]
fn a_ceiling_narrows_a_token_and_never_widens_it() {
    let mut world = world();
    let with =
        |world: &mut World, ceiling: Held| world.tokens.get_mut("tokens/ci").unwrap().ceiling = Some(ceiling);
    for (name, uid, pairs, tool, expected) in [
        ("users/ann", "u-ann", &[("roles/developer", "teams/core")][..], "dev_list", None),
        (
            "users/ann",
            "u-ann",
            &[("roles/developer", "teams/core")],
            "dev_write",
            Some(Reason::TargetNotGranted),
        ),
        ("users/root", "u-root", &[("roles/administrator", "")], "dev_write", None),
        ("users/ann", "u-ann", &[("roles/viewer", "teams/core")], "dev_list", Some(Reason::ServerNotGranted)),
        ("users/ann", "u-ann", &[], "dev_list", Some(Reason::ServerNotGranted)),
        ("", "", &[("", "teams/core")], "dev_list", None),
        ("", "", &[("", "teams/web")], "dev_list", Some(Reason::ServerNotGranted)),
        ("", "", &[("", "")], "dev_list", Some(Reason::ServerNotGranted)),
    ] {
        with(&mut world, held(name, uid, pairs));
        assert_eq!(refused(&world, &call("tokens/ci", tool)), expected, "{name} {pairs:?} {tool}");
    }
    with(&mut world, held("users/root", "u-root", &[("roles/administrator", "")]));
    let prompt = Request { method: "prompts/get".into(), ..call("tokens/ci", "review") };
    assert_eq!(refused(&world, &prompt), Some(Reason::TargetNotGranted));
}

fn some(names: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(prop::sample::select(names).prop_map(str::to_owned), 0..3)
}

fn some_scope() -> impl Strategy<Value = Scope> {
    let servers = some(&["*", "servers/dev", "servers/other"]);
    (
        servers,
        some(&["*", "dev_*", "dev_list", "x"]),
        some(&["*", "memo://a", "memo://{id}"]),
        some(&["*", "review"]),
    )
        .prop_map(|(servers, tools, resources, prompts)| Scope { servers, tools, resources, prompts })
}

fn some_held(name: &'static str, uid: &'static str) -> impl Strategy<Value = Held> {
    let role = prop::sample::select(
        &["", "roles/developer", "roles/viewer", "roles/administrator", "roles/gone"][..],
    );
    let team = prop::sample::select(&["", "teams/core", "teams/web", "teams/gone"][..]);
    prop::collection::vec((role, team), 0..3).prop_map(move |pairs| held(name, uid, &pairs))
}

fn some_conditions() -> impl Strategy<Value = Conditions> {
    let windows =
        some(&["Mon-Fri 08:00-18:00 Europe/Berlin", "Sat 22:00-06:00 UTC", "daily 00:00-24:00 UTC", "never"]);
    let not_before = prop::option::of(FRIDAY - 10..FRIDAY + 10);
    (
        some(&["tools/*", "tools/call", "resources/read", "*", "completion/complete"]),
        some(&["10.0.0.0/8", "::/0", "10.1.2.4"]),
        not_before,
        windows,
    )
        .prop_map(|(methods, from, not_before_s, windows)| Conditions {
            methods,
            from,
            not_before_s,
            windows,
            limits: vec![],
        })
}

prop_compose! {
    pub(crate) fn some_world()(
        owner in prop::sample::select(&["", "u-ann", "u-bob"][..]), team in prop::sample::select(&["", "teams/core", "teams/web"][..]), public: bool,
        core in some_scope(), web in some_scope(), own in some_scope(), ann in some_held("users/ann", "u-ann"),
        conditions in some_conditions(), ceiling in prop::option::of(some_held("users/bob", "u-bob")),
        ends in prop::option::of(FRIDAY - 10..FRIDAY + 10), is_over in prop::sample::select(&[0u8, 0, 0, 0, 1, 2][..]),
    ) -> World {
        let mut world = world();
        let dev = world.servers.get_mut("servers/dev").unwrap();
        *dev = Server { owner_uid: owner.into(), team: team.into(), public, ..dev.clone() };
        world.teams = [("teams/core".into(), core), ("teams/web".into(), web)].into();
        world.people.insert("users/ann".into(), ann);
        let token = Token { scope: own, conditions, ceiling, expires_s: ends, revoked: is_over == 1, suspended: is_over == 2 };
        world.tokens.insert("tokens/ci".into(), token);
        world
    }
}

prop_compose! {
    pub(crate) fn some_request()(
        principal in prop::sample::select(&["tokens/ci", "users/ann"][..]), server in prop::sample::select(&["servers/dev", "servers/dev", "servers/other"][..]),
        (method, target) in prop::sample::select(&[
            ("tools/call", Some("dev_list")), ("tools/call", Some("dev_write")), ("tools/list", None), ("resources/read", Some("memo://a")),
            ("resources/read", Some("memo://b")), ("prompts/get", Some("review")), ("completion/complete", Some("review")), ("initialize", None),
        ][..]),
        address in prop::option::of(prop::sample::select(&["10.1.2.3", "2001:db8::1", "::ffff:10.1.2.4"][..])), later in -15i64..200_000,
    ) -> Request {
        Request {
            principal: principal.into(), server: server.into(), method: method.into(), target: target.map(str::to_owned),
            templates: if target == Some("memo://b") { names(&["memo://{id}"]) } else { vec![] },
            address: address.map(|address| address.parse().unwrap()), now_s: FRIDAY + later, ..Request::default()
        }
    }
}

/// Takes away what these grounds say.
fn without(world: &World, grounds: &[&Ground]) -> World {
    let mut world = world.clone();
    // From the back, so that positions stay what they are.
    for ground in grounds.iter().rev() {
        let at = ground.field.split_once('[').and_then(|(_, at)| at.strip_suffix(']')?.parse::<usize>().ok());
        let token = world.tokens.get_mut(&ground.resource).map(|token| &mut token.scope);
        let scope = token.or_else(|| world.teams.get_mut(&ground.resource));
        let list = scope.map(|scope| match ground.field.split('[').next().unwrap() {
            "scope.servers" => &mut scope.servers,
            "scope.tools" => &mut scope.tools,
            "scope.resources" => &mut scope.resources,
            _ => &mut scope.prompts,
        });
        if let (Some(list), Some(at)) = (list, at) {
            // Teams are named once for each pair.
            if at < list.len() {
                list.remove(at);
            }
        }
        if let Some(role) = world.roles.get_mut(&ground.resource) {
            *role = Role::default();
        }
        if let Some(server) = world.servers.get_mut(&ground.resource) {
            match ground.field.as_str() {
                "meta.visibility" => server.public = false,
                "meta.owner" => server.owner_uid = String::new(),
                "meta.team" => server.team = String::new(),
                _ => {}
            }
        }
        if ground.field == "meta.name" {
            world.teams.remove(&ground.resource);
        }
    }
    world
}

fn is_grant(ground: &&Ground) -> bool {
    ground.holds && !ground.field.starts_with("conditions.") && ground.field != "expireTime"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_refuses_is_the_last_ground(world in some_world(), request in some_request()) {
        let Decision { refused, grounds, .. } = decide(&world, &request);
        match refused {
            Some(_) => prop_assert!(grounds.last().is_some_and(|ground| !ground.holds)),
            None => prop_assert!(grounds.iter().any(|ground| ground.holds)),
        }
    }

    #[test]
    fn without_the_grants_that_are_named_it_is_refused(world in some_world(), request in some_request()) {
        let decision = decide(&world, &request);
        if decision.allowed() {
            let grants: Vec<_> = decision.grounds.iter().filter(is_grant).collect();
            prop_assert!(!decide(&without(&world, &grants), &request).allowed());
            for list in ["scope.servers", "scope.tools", "scope.resources", "scope.prompts"] {
                let own = |ground: &&&Ground| ground.resource == "tokens/ci" && ground.field.starts_with(list);
                let own: Vec<_> = grants.iter().filter(own).copied().collect();
                prop_assert!(own.is_empty() || !decide(&without(&world, &own), &request).allowed());
            }
        }
    }

    #[test]
    fn conditions_and_ceilings_only_narrow(world in some_world(), request in some_request()) {
        let mut free = world.clone();
        let token = free.tokens.get_mut("tokens/ci").unwrap();
        *token = Token { scope: token.scope.clone(), ..Token::default() };
        prop_assert!(decide(&free, &request).allowed() || !decide(&world, &request).allowed());
    }
}
