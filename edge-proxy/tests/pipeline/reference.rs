//! What edges compile decides as the plainest evaluation does: random worlds, one after the other in the same edge, and random
//! requests in each. And what is listed is what may be called.

mod rules;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use access::decide::{Reason, Request, decide};
use access::rule::Fact;
use access::world;
use delta::client::Sink as _;
use mcp::method::Method;
use mcp::revision::Era;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use rules::{Plain, RuleSpec};
use trunkline::edge::v1 as wire;
use trunkline::edge::v1::StreamType;
use trunkline_edge_proxy::error::Unmet;
use trunkline_edge_proxy::identity::{Principal, PrincipalKind};
use trunkline_edge_proxy::policy::{self, Arguments, Caller, Denied, Facts};
use trunkline_edge_proxy::route::{NamedTarget, TargetKind};
use trunkline_edge_proxy::snapshot::build::{Builder, Resources};
use trunkline_edge_proxy::snapshot::{BearerGrants, Budget, GrantPair, List, PageLimits, Snapshot, View};

const ROLES: [&str; 3] = ["call", "look", "all"];
const TEAMS: [&str; 3] = ["core", "web", "ops"];
const PEOPLE: [&str; 3] = ["ann", "bob", "eve"];
const SERVERS: [&str; 3] = ["dev", "docs", "mail"];
const TOKENS: [&str; 3] = ["ci", "laptop", "bot"];
const TEMPLATES: [&str; 3] = ["x:{v}", "x:a{v}", "y:{+v}"];

/// One of several, or none.
type Maybe = Option<usize>;

#[derive(Debug, Clone)]
struct Globs {
    servers: BTreeSet<Maybe>,
    tools: Vec<String>,
    resources: Vec<String>,
    prompts: Vec<String>,
}

#[derive(Debug, Clone)]
struct ServerSpec {
    owner: Maybe,
    team: Maybe,
    public: bool,
    tools: BTreeSet<String>,
    prompts: BTreeSet<String>,
    uris: BTreeSet<String>,
    templates: Vec<&'static str>,
    rules: Vec<RuleSpec>,
}

#[derive(Debug, Clone, Default)]
struct ConditionsSpec {
    methods: Vec<&'static str>,
    from: Vec<&'static str>,
    windows: Vec<&'static str>,
    limits: Vec<&'static str>,
    not_before: Option<i64>,
    suspended: bool,
}

#[derive(Debug, Clone)]
struct TokenSpec {
    globs: Globs,
    conditions: ConditionsSpec,
    /// Whose rights cut it, and what they hold; of nobody, a team's.
    ceiling: Option<(Maybe, BTreeSet<(Maybe, Maybe)>)>,
    expires: Option<i64>,
    revoked: bool,
}

#[derive(Debug, Clone)]
struct PersonSpec {
    epoch: i64,
    pairs: BTreeSet<(usize, Maybe)>,
    withdrawn_below: i64,
    lost: Vec<(i64, Maybe, Maybe)>,
}

#[derive(Debug, Clone)]
struct Spec {
    roles: [Option<(bool, bool)>; 3],
    teams: [Option<Globs>; 3],
    servers: [Option<ServerSpec>; 3],
    tokens: [Option<TokenSpec>; 3],
    people: [PersonSpec; 3],
}

#[derive(Debug, Clone)]
struct Asked {
    token: bool,
    who: usize,
    server: usize,
    use_of: (Method, TargetKind),
    name: String,
    arguments: Option<&'static str>,
    address: Option<&'static str>,
    now: i64,
}

fn globs() -> impl Strategy<Value = Globs> {
    let name = || vec("[ab*]{1,2}", 0..3);
    let uri = vec(r"[xy]:[ab*]{1,2}|\*|x:\{v\}|y:\*", 0..3);
    let servers = btree_set(proptest::option::weighted(0.8, 0..3usize), 0..3);
    (servers, name(), uri, name()).prop_map(|(servers, tools, resources, prompts)| Globs {
        servers,
        tools,
        resources,
        prompts,
    })
}

fn server() -> impl Strategy<Value = ServerSpec> {
    let (owner, team) = (proptest::option::of(0..3usize), proptest::option::of(0..3usize));
    let names = || btree_set("[ab]{1,2}", 0..5);
    let templates = subsequence(TEMPLATES.to_vec(), 0..=3);
    let of = (
        owner,
        team,
        proptest::bool::weighted(0.2),
        names(),
        names(),
        btree_set("[xy]:[ab]{1,2}", 0..4),
        templates,
        rules::rules(),
    );
    of.prop_map(|(owner, team, public, tools, prompts, uris, templates, rules)| ServerSpec {
        owner,
        team,
        public,
        tools,
        prompts,
        uris,
        templates,
        rules,
    })
}

fn conditions() -> impl Strategy<Value = ConditionsSpec> {
    let some = |texts: &[&'static str], most| subsequence(texts.to_vec(), 0..=most);
    let methods = some(
        &["tools/*", "*/call", "prompts/get", "resources/*", "completion/complete", "*/list", "tool/call"],
        4,
    );
    let from = some(&["10.0.0.0/8", "192.0.2.1", "::/0", "10.0.0.1/8"], 2);
    let windows = some(
        &["Mon-Fri 08:00-18:00 UTC", "Sat-Sun 22:00-02:00 Europe/Berlin", "daily 00:00-12:00 UTC", "always"],
        2,
    );
    let limits = some(&["5/s", "60/min per tool"], 1);
    let rare = proptest::option::weighted(0.2, 0..1_209_600i64);
    let of = (
        methods,
        from,
        windows,
        proptest::option::weighted(0.2, limits),
        rare,
        proptest::bool::weighted(0.1),
    );
    let conditions = of.prop_map(|(methods, from, windows, limits, not_before, suspended)| ConditionsSpec {
        methods,
        from,
        windows,
        limits: limits.unwrap_or_default(),
        not_before,
        suspended,
    });
    prop_oneof![Just(ConditionsSpec::default()), conditions]
}

fn token() -> impl Strategy<Value = TokenSpec> {
    let pairs =
        btree_set((proptest::option::weighted(0.8, 0..3usize), proptest::option::of(0..3usize)), 0..4);
    let ceiling = proptest::option::of((proptest::option::of(0..3usize), pairs));
    let expires = proptest::option::weighted(0.2, 0..1_209_600i64);
    let of = (globs(), conditions(), ceiling, expires, proptest::bool::weighted(0.05));
    of.prop_map(|(globs, conditions, ceiling, expires, revoked)| TokenSpec {
        globs,
        conditions,
        ceiling,
        expires,
        revoked,
    })
}

fn person() -> impl Strategy<Value = PersonSpec> {
    let maybe = || proptest::option::of(0..3usize);
    let of =
        (0..4i64, btree_set((0..3usize, maybe()), 0..4), 0..2i64, vec((0..5i64, maybe(), maybe()), 0..3));
    of.prop_map(|(epoch, pairs, withdrawn_below, lost)| PersonSpec { epoch, pairs, withdrawn_below, lost })
}

fn spec() -> impl Strategy<Value = Spec> {
    let often = |of| proptest::option::weighted(0.9, of);
    let roles = proptest::array::uniform3(often((any::<bool>(), any::<bool>())));
    let teams = proptest::array::uniform3(proptest::option::weighted(0.9, globs()));
    let servers = proptest::array::uniform3(proptest::option::weighted(0.9, server()));
    let tokens = proptest::array::uniform3(proptest::option::weighted(0.9, token()));
    let people = proptest::array::uniform3(person());
    (roles, teams, servers, tokens, people).prop_map(|(roles, teams, servers, tokens, people)| Spec {
        roles,
        teams,
        servers,
        tokens,
        people,
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let use_of = select(vec![
        (Method::ToolsCall, TargetKind::Tool),
        (Method::PromptsGet, TargetKind::Prompt),
        (Method::ResourcesRead, TargetKind::Resource),
        (Method::CompletionComplete, TargetKind::Prompt),
        (Method::CompletionComplete, TargetKind::Template),
    ]);
    let addresses = ["10.1.2.3", "192.0.2.1", "::ffff:10.0.0.1", "2001:db8::1"];
    let address = proptest::option::weighted(0.9, select(addresses.to_vec()));
    let arguments = ["{}", r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":1,"n":2}"#, r#"{"n":"x"}"#, "[]", "null"];
    let arguments = proptest::option::weighted(0.8, select(arguments.to_vec()));
    let named = ("[ab]{1,2}", 0..6usize);
    let of = (any::<bool>(), 0..3usize, 0..3usize, use_of, named, arguments, address, 0..1_209_600i64);
    of.prop_map(|(token, who, server, use_of, (name, at), arguments, address, now)| {
        let name = match use_of.1 {
            TargetKind::Tool | TargetKind::Prompt => name,
            TargetKind::Resource => format!("{}:{name}", if at % 2 == 0 { "x" } else { "y" }),
            TargetKind::Template => TEMPLATES[at % 3].to_owned(),
        };
        Asked { token, who, server, use_of, name, arguments, address, now }
    })
}

fn gid(of: &str) -> String {
    format!("gid-{of}")
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn time(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

impl Asked {
    /// The arguments, where its method has any.
    fn arguments(&self) -> Option<&'static str> {
        self.arguments.filter(|_| matches!(self.use_of.0, Method::ToolsCall | Method::PromptsGet))
    }
}

impl Globs {
    fn servers(&self) -> Vec<String> {
        let name = |at: &Maybe| at.map_or("*".to_owned(), |at| format!("servers/{}", SERVERS[at]));
        self.servers.iter().map(name).collect()
    }

    fn scope(&self) -> world::Scope {
        let Self { tools, resources, prompts, .. } = self.clone();
        world::Scope { servers: self.servers(), tools, resources, prompts }
    }
}

fn wire_pair((role, team): (Maybe, Maybe)) -> wire::GrantPair {
    let of = |names: &[&str], at: Maybe| at.map(|at| gid(names[at])).unwrap_or_default();
    wire::GrantPair { role: of(&ROLES, role), team: of(&TEAMS, team) }
}

fn world_pair((role, team): (Maybe, Maybe)) -> world::Pair {
    let of = |kind: &str, names: &[&str], at: Maybe| {
        at.map(|at| format!("{kind}/{}", names[at])).unwrap_or_default()
    };
    world::Pair { role: of("roles", &ROLES, role), team: of("teams", &TEAMS, team) }
}

impl Spec {
    /// What the edge is told.
    fn resources(&self) -> Resources {
        let mut made = Resources { upstreams: vec![upstream()], ..Resources::default() };
        for (name, role) in ROLES.into_iter().zip(self.roles) {
            let kind = role.map(|(may_call, every_server)| wire::RoleGrant { may_call, every_server });
            made.grants.extend(kind.map(|role| grant("roles", name, wire::grant::Kind::Role(role))));
        }
        for (name, team) in TEAMS.into_iter().zip(&self.teams) {
            made.grants.extend(team.as_ref().map(|globs| {
                let Globs { tools, resources, prompts, .. } = globs.clone();
                let team = wire::TeamGrant { servers: globs.servers(), tools, resources, prompts };
                grant("teams", name, wire::grant::Kind::Team(team))
            }));
        }
        for (id, server) in SERVERS.into_iter().zip(&self.servers) {
            if let Some(server) = server {
                add_server(&mut made, id, server);
            }
        }
        made.tokens = TOKENS
            .into_iter()
            .zip(&self.tokens)
            .filter_map(|(id, token)| wire_token(id, token.as_ref()?))
            .collect();
        for (name, person) in PEOPLE.into_iter().zip(&self.people) {
            let lost = person.lost.iter().map(|(epoch, role, team)| wire::WithdrawnPair {
                epoch: *epoch,
                pair: Some(wire_pair((*role, *team))),
            });
            made.withdrawals.push(wire::Withdrawal {
                name: format!("withdrawals/uid-{name}"),
                uid: format!("uid-{name}"),
                epoch: person.withdrawn_below,
                pairs: lost.collect(),
            });
        }
        made
    }

    /// The same, for who looks at it in the plainest way.
    fn world(&self) -> world::World {
        let named = |kind: &str, id: &str| format!("{kind}/{id}");
        let roles = ROLES.into_iter().zip(self.roles).filter_map(|(name, role)| {
            let (may_call, every_server) = role?;
            Some((named("roles", name), world::Role { may_call, every_server }))
        });
        let teams = TEAMS.into_iter().zip(&self.teams);
        let teams = teams.filter_map(|(name, team)| Some((named("teams", name), team.as_ref()?.scope())));
        let servers = SERVERS.into_iter().zip(&self.servers);
        let servers =
            servers.filter_map(|(id, server)| Some((named("servers", id), world_server(server.as_ref()?))));
        let tokens = TOKENS.into_iter().zip(&self.tokens);
        let tokens =
            tokens.filter_map(|(id, token)| Some((named("tokens", id), world_token(token.as_ref()?))));
        let people = PEOPLE.into_iter().zip(&self.people);
        let people = people.filter_map(|(name, person)| Some((named("users", name), held(name, person)?)));
        world::World {
            roles: roles.collect(),
            teams: teams.collect(),
            servers: servers.collect(),
            tokens: tokens.collect(),
            people: people.collect(),
        }
    }

    fn principal(&self, asked: &Asked) -> Arc<Principal> {
        if asked.token {
            let id = TOKENS[asked.who];
            let (uid, name) = (format!("uid-{id}").into(), format!("tokens/{id}").into());
            return Arc::new(Principal::new(PrincipalKind::Token, uid, name, None));
        }
        let (name, person) = (PEOPLE[asked.who], &self.people[asked.who]);
        let uid: Box<str> = format!("uid-{name}").into();
        let pair = |(role, team): &(usize, Maybe)| {
            let wire::GrantPair { role, team } = wire_pair((Some(*role), *team));
            GrantPair { role: role.into(), team: team.into() }
        };
        let grants = BearerGrants::new(uid.clone(), person.epoch, person.pairs.iter().map(pair).collect());
        let kind = PrincipalKind::Person(Arc::new(grants));
        Arc::new(Principal::new(kind, uid, format!("users/{name}").into(), Some(u64::MAX)))
    }
}

fn upstream() -> wire::Upstream {
    wire::Upstream {
        name: "upstreams/u".into(),
        uid: "u-u".into(),
        url: "http://127.0.0.1:9000/mcp".into(),
        kind: Some(wire::upstream::Kind::Mcp(wire::McpUpstream {
            legacy_version: "2025-11-25".into(),
            ..wire::McpUpstream::default()
        })),
        ..wire::Upstream::default()
    }
}

fn grant(kind: &str, name: &str, grant: wire::grant::Kind) -> wire::Grant {
    wire::Grant { name: format!("{kind}/{name}"), gid: gid(name), kind: Some(grant) }
}

fn add_server(made: &mut Resources, id: &str, spec: &ServerSpec) {
    let entry = |name: &str, target: String| wire::Entry {
        exposed_name: name.into(),
        target,
        ..wire::Entry::default()
    };
    let mut server = wire::Server {
        name: format!("servers/{id}"),
        uid: format!("s-{id}"),
        owner_uid: spec.owner.map(|at| format!("uid-{}", PEOPLE[at])).unwrap_or_default(),
        team_gid: spec.team.map(|at| gid(TEAMS[at])).unwrap_or_default(),
        public: spec.public,
        ..wire::Server::default()
    };
    for tool in &spec.tools {
        let own = rules::own_name(tool);
        let (name, definition_json) = (format!("upstreams/u/tools/{own}"), format!(r#"{{"name":"{own}"}}"#));
        let harmless = r#"{"annotations":{"readOnlyHint":true}}"#;
        let overrides_json = if rules::is_made_harmless(tool) { harmless } else { "" }.to_owned();
        server.tools.push(wire::Entry { overrides_json, ..entry(tool, name.clone()) });
        made.tools.push(wire::Tool { name, tool_name: own.into(), definition_json });
    }
    for prompt in &spec.prompts {
        let own = rules::own_name(prompt);
        let (name, definition_json) =
            (format!("upstreams/u/prompts/{own}"), format!(r#"{{"name":"{own}"}}"#));
        server.prompts.push(entry(prompt, name.clone()));
        made.prompts.push(wire::Prompt { name, prompt_name: own.into(), definition_json });
    }
    for (at, uri) in spec.uris.iter().enumerate() {
        let (name, definition_json) =
            (format!("upstreams/u/resources/{id}{at}"), format!(r#"{{"uri":"{uri}","name":"r"}}"#));
        server.resources.push(entry(uri, name.clone()));
        made.resources.push(wire::Resource { name, uri: uri.clone(), definition_json, ..Default::default() });
    }
    for (at, template) in spec.templates.iter().enumerate() {
        let (name, definition_json) = (
            format!("upstreams/u/resources/{id}t{at}"),
            format!(r#"{{"uriTemplate":"{template}","name":"t"}}"#),
        );
        server.resource_templates.push(entry(template, name.clone()));
        let uri_template = (*template).to_owned();
        made.resources.push(wire::Resource { name, uri_template, definition_json, ..Default::default() });
    }
    rules::add(&mut server, &spec.rules);
    made.servers.push(server);
}

fn wire_token(id: &str, token: &TokenSpec) -> Option<wire::Token> {
    let Globs { tools, resources, prompts, .. } = token.globs.clone();
    let limits = token.conditions.limits.iter().enumerate();
    let limits = limits.map(|(at, text)| wire::Limit { id: format!("r{at}"), text: (*text).into() });
    let ceiling = token.ceiling.as_ref().map(|(owner, pairs)| wire::Ceiling {
        owner_uid: owner.map(|at| format!("uid-{}", PEOPLE[at])).unwrap_or_default(),
        pairs: pairs.iter().map(|pair| wire_pair(*pair)).collect(),
    });
    let access = wire::Access {
        servers: token.globs.servers(),
        tools,
        resources,
        prompts,
        methods: strings(&token.conditions.methods),
        from: strings(&token.conditions.from),
        not_before: token.conditions.not_before.map(time),
        windows: strings(&token.conditions.windows),
        limits: limits.collect(),
        ceiling,
        suspended: token.conditions.suspended,
        certificates: Vec::new(),
    };
    Some(wire::Token {
        name: format!("tokens/{id}"),
        uid: format!("uid-{id}"),
        expire_time: token.expires.map(time),
        revoked: token.revoked,
        access: Some(access),
        ..wire::Token::default()
    })
}

fn world_token(token: &TokenSpec) -> world::Token {
    let ConditionsSpec { methods, from, windows, limits, not_before, suspended } = &token.conditions;
    world::Token {
        scope: token.globs.scope(),
        conditions: world::Conditions {
            methods: strings(methods),
            from: strings(from),
            not_before_s: *not_before,
            windows: strings(windows),
            limits: strings(limits),
        },
        ceiling: token.ceiling.as_ref().map(|(owner, pairs)| world::Held {
            name: owner.map(|at| format!("users/{}", PEOPLE[at])).unwrap_or_default(),
            uid: owner.map(|at| format!("uid-{}", PEOPLE[at])).unwrap_or_default(),
            pairs: pairs.iter().map(|pair| world_pair(*pair)).collect(),
        }),
        expires_s: token.expires,
        revoked: token.revoked,
        suspended: *suspended,
    }
}

fn world_server(spec: &ServerSpec) -> world::Server {
    let entry = |name: &String| world::Entry {
        name: name.clone(),
        upstream: "u".into(),
        read_only: true,
        own: world::OwnEntry { name: name.clone(), read_only: true, ..world::OwnEntry::default() },
        ..world::Entry::default()
    };
    let named = |name: &String| {
        let own = world::OwnEntry { name: rules::own_name(name).into(), ..entry(name).own };
        world::Entry { own, ..entry(name) }
    };
    let tool = |name: &String| {
        let (read_only, named) = (rules::is_made_harmless(name), named(name));
        let own = world::OwnEntry { read_only: false, destructive: true, ..named.own };
        world::Entry { read_only, destructive: !read_only, own, ..named }
    };
    world::Server {
        owner_uid: spec.owner.map(|at| format!("uid-{}", PEOPLE[at])).unwrap_or_default(),
        team: spec.team.map(|at| format!("teams/{}", TEAMS[at])).unwrap_or_default(),
        public: spec.public,
        tools: spec.tools.iter().map(tool).collect(),
        resources: spec.uris.iter().map(entry).collect(),
        templates: strings(&spec.templates).iter().map(entry).collect(),
        prompts: spec.prompts.iter().map(named).collect(),
        rules: rules::compiled(&spec.rules),
    }
}

/// What a person holds at present: what the bearer names, without what was lost since. `None`: the bearer is not valid.
fn held(name: &str, person: &PersonSpec) -> Option<world::Held> {
    let is_lost = |(role, team): &(usize, Maybe)| {
        person.lost.iter().any(|(below, lost, lost_team)| {
            person.epoch < *below && lost_team == team && lost.is_none_or(|lost| lost == *role)
        })
    };
    let pairs = person.pairs.iter().filter(|pair| !is_lost(pair));
    (person.epoch >= person.withdrawn_below).then(|| world::Held {
        name: format!("users/{name}"),
        uid: format!("uid-{name}"),
        pairs: pairs.map(|(role, team)| world_pair((Some(*role), *team))).collect(),
    })
}

/// What the edge decides, in the words of the reference.
fn compiled(snapshot: &Snapshot, principal: &Arc<Principal>, asked: &Asked) -> Result<(), Reason> {
    let address = asked.address.map(|address| address.parse::<IpAddr>().unwrap());
    let facts = Facts { address, now: asked.now.unsigned_abs() };
    let caller = policy::admit(snapshot, principal, SERVERS[asked.server], facts);
    let caller = caller.map_err(|denied| match denied {
        Denied::NotFound => Reason::UnknownServer,
        Denied::OutOfScope => Reason::ServerNotGranted,
        other => condition(other),
    })?;
    let (method, kind) = asked.use_of;
    let named = NamedTarget::of(kind, &asked.name);
    let checked = policy::check(&caller, method, &named, Arguments::Of(asked.arguments));
    checked.map(drop).map_err(|denied| match denied {
        Denied::NotFound => Reason::UnknownTarget,
        Denied::OutOfScope | Denied::Rule(_) => Reason::TargetNotGranted,
        Denied::Method => Reason::MethodNotGranted,
        other => condition(other),
    })
}

fn condition(denied: Denied) -> Reason {
    use policy::Reason as Why;
    match denied {
        Denied::Condition(Why::NoToken | Why::Withdrawn) => Reason::UnknownPrincipal,
        Denied::Condition(Why::Revoked) => Reason::Revoked,
        Denied::Condition(Why::Suspended) => Reason::Suspended,
        Denied::Condition(Why::TokenExpired) => Reason::Expired,
        Denied::Condition(Why::Unmet(Unmet::NotYetValid)) => Reason::NotYetValid,
        Denied::Condition(Why::Unmet(Unmet::Address)) => Reason::AddressNotAllowed,
        Denied::Condition(Why::Unmet(Unmet::Window { .. })) => Reason::OutsideTimeWindow,
        other => panic!("{other:?}"),
    }
}

fn plainly(world: &world::World, asked: &Asked) -> Result<(), Reason> {
    let principal = match asked.token {
        true => format!("tokens/{}", TOKENS[asked.who]),
        false => format!("users/{}", PEOPLE[asked.who]),
    };
    let is_uri = asked.use_of.1 == TargetKind::Resource;
    let produces = |template: &&&str| is_uri && produces(template, &asked.name);
    let request = Request {
        principal,
        server: format!("servers/{}", SERVERS[asked.server]),
        method: asked.use_of.0.as_str().to_owned(),
        target: Some(asked.name.clone()),
        // What completes a variable names a template, and no URI.
        templates: TEMPLATES.iter().filter(produces).map(|template| (*template).to_owned()).collect(),
        address: asked.address.map(|address| address.parse().unwrap()),
        now_s: asked.now,
        arguments: asked.arguments().map_or(Fact::Absent, |text| Fact::Is(text.into())),
        at_any_time: false,
        from_anywhere: false,
    };
    let mut world = world.clone();
    let templates = world.servers.values_mut().flat_map(|server| &mut server.templates);
    templates.for_each(|template| template.own.produced.clone_from(&asked.name));
    match decide(&world, &request).refused {
        None => Ok(()),
        Some(Reason::DeniedByRule | Reason::UndecidableRule) => Err(Reason::TargetNotGranted),
        Some(reason) => Err(reason),
    }
}

/// Whether a template produces a URI.
fn produces(template: &str, uri: &str) -> bool {
    let (head, variable) = template.split_once('{').unwrap();
    uri.strip_prefix(head).is_some_and(|value| variable.starts_with('+') || !value.contains('/'))
}

/// Whether two decisions are the same. Edges look for the server first, and say nothing of methods at one that is not granted.
fn agree(compiled: Result<(), Reason>, plainly: Result<(), Reason>) -> bool {
    let hidden = matches!(compiled, Err(Reason::UnknownServer | Reason::ServerNotGranted));
    compiled == plainly || (hidden && plainly == Err(Reason::MethodNotGranted))
}

/// Moves an edge to another world, as a stream would: what is gone goes last.
fn move_to(builder: &mut Builder, before: &Resources, next: &Resources) -> Arc<Snapshot> {
    let candidates = next.candidates();
    let kept: BTreeSet<(StreamType, String)> =
        candidates.iter().map(|candidate| (candidate.kind, candidate.name.clone())).collect();
    candidates.into_iter().for_each(|candidate| builder.accept(candidate).unwrap());
    for gone in before.candidates() {
        if !kept.contains(&(gone.kind, gone.name.clone())) {
            builder.remove(gone.kind, &gone.name);
        }
    }
    builder.compile(1).snapshot
}

/// The names that a list shows.
fn listed(view: &View, list: List, member: &str) -> BTreeSet<String> {
    let pages = view.pages(list, Era::Legacy);
    let page = String::from_utf8(pages.pages[0].to_vec()).unwrap();
    let entries: Vec<serde_json::Value> = serde_json::from_str(page.strip_suffix("}}").unwrap()).unwrap();
    entries.iter().map(|entry| entry[member].as_str().unwrap().to_owned()).collect()
}

/// Whether somebody may use something, or is told that rules refuse what they ask of it.
fn is_known(caller: &Caller<'_>, method: Method, named: &NamedTarget<'_>, asked: &Asked) -> bool {
    let checked = policy::check(caller, method, named, Arguments::Of(asked.arguments));
    matches!(checked, Ok(_) | Err(Denied::Rule(_)))
}

/// Compares the lists that somebody sees at a server with what they may call there.
fn lists_agree(snapshot: &Snapshot, spec: &Spec, asked: &Asked) -> Result<(), TestCaseError> {
    let principal = spec.principal(asked);
    let address = asked.address.map(|address| address.parse::<IpAddr>().unwrap());
    let facts = Facts { address, now: asked.now.unsigned_abs() };
    let Ok(caller) = policy::admit(snapshot, &principal, SERVERS[asked.server], facts) else { return Ok(()) };
    let server = spec.servers[asked.server].as_ref().unwrap();
    let lists = [
        (List::Tools, Method::ToolsCall, TargetKind::Tool, &server.tools),
        (List::Prompts, Method::PromptsGet, TargetKind::Prompt, &server.prompts),
    ];
    for (list, method, kind, names) in lists {
        let may = |name: &&String| is_known(&caller, method, &NamedTarget::of(kind, name), asked);
        let callable: BTreeSet<String> = names.iter().filter(may).cloned().collect();
        prop_assert_eq!(listed(caller.view(), list, "name"), callable, "{:?}", kind);
    }
    for uri in listed(caller.view(), List::Resources, "uri") {
        let named = NamedTarget::of(TargetKind::Resource, &uri);
        prop_assert!(is_known(&caller, Method::ResourcesRead, &named, asked), "{} is listed", uri);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_is_compiled_decides_as_the_reference_does(
        worlds in vec(spec(), 1..4),
        requests in vec(asked(), 1..60),
    ) {
        let mut builder = Builder::new(PageLimits::default(), Budget::default());
        let mut before = Resources::default();
        for spec in &worlds {
            let (next, world) = (spec.resources(), spec.world());
            let snapshot = move_to(&mut builder, &before, &next);
            for asked in &requests {
                let compiled = compiled(&snapshot, &spec.principal(asked), asked);
                let plainly = match (plainly(&world, asked), rules::plainly(spec, asked)) {
                    (Ok(()), Plain::Refused) => panic!("{asked:?}: the reference allows what rules refuse"),
                    // It is enough for the reference that one of them may be used. An edge refuses what may mean another that may not.
                    (Ok(()), Plain::Either) => compiled,
                    (granted, _) => granted,
                };
                prop_assert!(agree(compiled, plainly), "{asked:?}: the edge says {compiled:?}, the reference {plainly:?}");
                lists_agree(&snapshot, spec, asked)?;
            }
            before = next;
        }
    }
}
