//! Who is in the matrix, at which servers: made at the gateway, and said once more for the reference. It must not know what is asked.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use access::rule::Rules;
use access::world::{self, Held, Pair, World};
use prost_types::Timestamp;
use trunkline::common::v1::Visibility;
use trunkline::identity::v1::{Conditions, Scope, Token};
use trunkline::registry::v1::Upstream;

use super::upstream::{PROMPTS, RESOURCES, TEMPLATES, TOOLS};
use crate::support::gateway::Gateway;
use crate::support::people::{Person, belongs, scope};

/// A person's own, a team's, a public one, somebody else's own, and one that does not exist.
pub(super) const SERVERS: [&str; 5] = ["own", "core", "open", "foreign", "absent"];

/// The identity of the one who owns a server, for the reference.
const OWNER: &str = "the owner";

const DEVELOPER: &str = "roles/developer";
const VIEWER: &str = "roles/viewer";
const CORE: &str = "teams/core";
const SIDE: &str = "teams/side";

/// Somebody who asks.
#[derive(Clone)]
pub(super) struct Principal {
    /// As the reference knows them.
    pub(super) name: String,
    /// As the control plane does. `None`: it knows only somebody with another bearer.
    pub(super) known_as: Option<String>,
    pub(super) bearer: String,
}

/// Everybody, and what they may do.
pub(super) struct Cast {
    pub(super) principals: Vec<Principal>,
    /// Whose tasks and streams the others try to get at.
    pub(super) victim: Principal,
    /// A token whose time is soon over.
    pub(super) expiring: Principal,
    pub(super) world: World,
}

/// What everybody is to have at most, but those who have everything.
fn granted(servers: &[&str]) -> Scope {
    scope([servers, &["granted*"], &["file:///granted/*"], &["granted"]])
}

fn everything() -> Scope {
    scope([&["*"], &["*"], &["*"], &["*"]])
}

fn three() -> Scope {
    granted(&["servers/own", "servers/core", "servers/open"])
}

pub(super) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

/// A whole day of the week, some days from now.
fn window(days_ahead: i64) -> String {
    // 1970 began on a Thursday.
    let day = (now_s() / 86_400 + days_ahead + 3).rem_euclid(7);
    let name = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][usize::try_from(day).unwrap()];
    format!("{name} 00:00-24:00 UTC")
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn pairs(list: &[(&str, &str)]) -> BTreeSet<Pair> {
    let pair = |(role, team): &(&str, &str)| Pair { role: (*role).to_owned(), team: (*team).to_owned() };
    list.iter().map(pair).collect()
}

/// What somebody holds, as the reference has it.
fn held(name: &str, uid: &str, list: &[(&str, &str)]) -> Held {
    Held { name: name.to_owned(), uid: uid.to_owned(), pairs: pairs(list) }
}

struct Stage<'a> {
    gateway: &'a Gateway,
    cast: Cast,
}

impl Cast {
    pub(super) async fn assemble(gateway: &Gateway, upstream: &str) -> Self {
        let nobody = Principal { name: String::new(), known_as: None, bearer: String::new() };
        let cast = Self {
            principals: Vec::new(),
            victim: nobody.clone(),
            expiring: nobody,
            world: World::default(),
        };
        let mut stage = Stage { gateway, cast };
        stage.teams_and_roles().await;
        let people = stage.sign_up().await;
        stage.servers(upstream, &people).await;
        stage.tokens().await;
        stage.owned_tokens(&people).await;
        stage.people(&people).await;
        stage.cast
    }

    /// What a token or a person holds from now on.
    fn token(&mut self, name: &str) -> &mut world::Token {
        self.world.tokens.get_mut(&format!("tokens/{name}")).unwrap()
    }
}

/// Those who own something, or are asked about twice.
struct People {
    owner: Person,
    other: Person,
    member: Person,
    removed: Person,
    suspended: Person,
}

impl Stage<'_> {
    async fn teams_and_roles(&mut self) {
        let admin = &self.gateway.admin;
        let few = granted(&["servers/core"]);
        admin.create_team("core", None).await;
        admin.create_team("side", None).await;
        // Its server does not exist yet.
        admin.create_team("narrow", None).await;
        admin.create_role("caller", &["registry.read", "servers.call"]).await;
        let world = &mut self.cast.world;
        let own = world::Scope { servers: Vec::new(), ..world::Scope::all() };
        world.teams.insert(CORE.to_owned(), own.clone());
        world.teams.insert(SIDE.to_owned(), own);
        world.teams.insert("teams/narrow".to_owned(), plainly(&few));
        for (role, may_call, every_server) in [
            ("administrator", true, true),
            ("developer", true, false),
            ("viewer", false, false),
            ("auditor", false, true),
            // From when it is edited on.
            ("caller", false, false),
        ] {
            let given = world::Role { may_call, every_server };
            world.roles.insert(format!("roles/{role}"), given);
        }
    }

    async fn sign_up(&self) -> People {
        let admin = &self.gateway.admin;
        let everywhere = |role| [(role, "")];
        let side = [(DEVELOPER, SIDE)];
        let people = People {
            owner: admin.sign_up("owner", &side).await,
            other: admin.sign_up("other", &everywhere(DEVELOPER)).await,
            member: admin.sign_up("member", &[]).await,
            removed: admin.sign_up("removed", &side).await,
            suspended: admin.sign_up("suspended", &everywhere("roles/administrator")).await,
        };
        for person in [&people.member, &people.removed] {
            admin.add_member(CORE, &person.name, "").await;
        }
        people
    }

    async fn servers(&mut self, upstream: &str, people: &People) {
        let admin = &self.gateway.admin;
        let everybodys = Upstream { meta: belongs("", "", Visibility::Public), ..Upstream::default() };
        admin.create_upstream_with("all", upstream, everybodys).await;
        let metas = [
            ("own", belongs(&people.owner.name, "", Visibility::Private)),
            ("core", belongs("", CORE, Visibility::Team)),
            ("open", belongs("", "", Visibility::Public)),
            ("foreign", belongs(&people.other.name, "", Visibility::Private)),
        ];
        for (id, meta) in metas {
            admin.create_server_of(id, &["all/*"], meta).await;
        }
        admin.edit_team("teams/narrow", Some(granted(&["servers/core"]))).await;
        let servers = &mut self.cast.world.servers;
        servers.insert("servers/own".to_owned(), server(OWNER, "", false));
        servers.insert("servers/core".to_owned(), server("", CORE, false));
        servers.insert("servers/open".to_owned(), server("", "", true));
        servers.insert("servers/foreign".to_owned(), server("somebody else", "", false));
    }

    async fn issue(&mut self, id: &str, token: Token, ceiling: Option<Held>) -> Principal {
        let name = format!("tokens/{id}");
        let known = world::Token {
            scope: plainly(&token.scope.clone().unwrap_or_default()),
            conditions: conditions(token.conditions.clone().unwrap_or_default()),
            ceiling,
            expires_s: token.expire_time.as_ref().map(|time| time.seconds),
            ..world::Token::default()
        };
        self.cast.world.tokens.insert(name.clone(), known);
        Principal { known_as: Some(name.clone()), name, bearer: self.gateway.admin.issue(id, token).await }
    }

    async fn token(&mut self, id: &str, token: Token, ceiling: Option<Held>) {
        let issued = self.issue(id, token, ceiling).await;
        self.cast.principals.push(issued);
    }

    /// Tokens that nobody owns, with every condition met and not.
    async fn tokens(&mut self) {
        let of = |scope| Token { scope: Some(scope), ..Token::default() };
        let under = |conditions| Token { conditions: Some(conditions), ..of(three()) };
        let (year, no_conditions) = (365 * 86_400, Conditions::default);
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let methods = |list| Conditions { methods: texts(list), ..no_conditions() };
        let from = |list| Conditions { from: texts(list), ..no_conditions() };
        let windows = |list| Conditions { windows: list, ..no_conditions() };
        for (id, token) in [
            ("plain", of(three())),
            ("everything", of(everything())),
            ("nothing", of(Scope::default())),
            ("no-lists", of(scope([&["*"], &[], &[], &[]]))),
            ("calls-tools", under(methods(&["tools/list", "tools/call"]))),
            ("calls-unlisted", under(methods(&["tools/call", "tasks/*"]))),
            ("lists-only", under(methods(&["*/list", "resources/*"]))),
            ("completes", under(methods(&["completion/complete", "prompts/get", "subscriptions/listen"]))),
            ("from-here", under(from(&["10.0.0.0/8", "127.0.0.0/8", "::1"]))),
            ("from-elsewhere", under(from(&["10.0.0.0/8", "::1"]))),
            ("window-open", under(windows(vec![window(3), "daily 00:00-24:00 UTC".to_owned()]))),
            ("window-closed", under(windows(vec![window(3), window(4)]))),
            ("begun", under(Conditions { not_before: at(now_s() - 60), ..no_conditions() })),
            ("not-begun", under(Conditions { not_before: at(now_s() + year), ..no_conditions() })),
            ("later", Token { expire_time: at(now_s() + year), ..of(three()) }),
            ("revoked", of(three())),
            ("deleted", of(three())),
            (
                "all-conditions",
                under(Conditions {
                    methods: texts(&["tools/*", "resources/read", "prompts/*", "tasks/*"]),
                    from: texts(&["127.0.0.1"]),
                    not_before: at(now_s() - 60),
                    windows: vec!["daily 00:00-24:00 Europe/Berlin".to_owned()],
                    ..no_conditions()
                }),
            ),
        ] {
            self.token(id, token, None).await;
        }
        self.cast.victim = self.issue("victim", of(everything()), None).await;
        let soon = Token { expire_time: at(now_s() + 5), ..of(three()) };
        self.cast.expiring = self.issue("expired", soon, None).await;
        self.cast.principals.push(self.cast.expiring.clone());
        self.gateway.admin.revoke_token("revoked").await;
        self.cast.token("revoked").revoked = true;
        self.gateway.ctl("delete token deleted").await;
        self.cast.world.tokens.remove("tokens/deleted");
    }

    /// Tokens that may do no more than whom they belong to.
    async fn owned_tokens(&mut self, people: &People) {
        let of = |owner: &str, team, scope| Token {
            meta: belongs(owner, team, Visibility::Unspecified),
            scope: Some(scope),
            ..Token::default()
        };
        let member = held("member", "", &[(DEVELOPER, CORE)]);
        let owner = held("owner", OWNER, &[(DEVELOPER, SIDE)]);
        // From when they are removed on.
        let removed = held("removed", "", &[(DEVELOPER, SIDE)]);
        self.token("of-member", of(&people.member.name, "", everything()), Some(member.clone())).await;
        self.token("of-member-few", of(&people.member.name, "", three()), Some(member)).await;
        self.token("of-owner", of(&people.owner.name, "", everything()), Some(owner)).await;
        self.token("of-removed", of(&people.removed.name, "", everything()), Some(removed)).await;
        self.token("of-team", of("", CORE, everything()), Some(held("", "", &[("", CORE)]))).await;
        let suspended = held("suspended", "", &[]);
        self.token("of-disabled", of(&people.suspended.name, "", everything()), Some(suspended)).await;
        self.cast.token("of-disabled").suspended = true;
    }

    /// Adds somebody with a bearer of now, and what they hold when everything is done.
    async fn add(&mut self, name: &str, uid: &str, person: &Person, now: Option<&[(&str, &str)]>) {
        self.add_with(name, uid, person.bearer().await, now);
        self.cast.principals.last_mut().unwrap().known_as = Some(person.name.clone());
    }

    /// The same, where the control plane cannot be asked about them.
    fn add_with(&mut self, name: &str, uid: &str, bearer: String, now: Option<&[(&str, &str)]>) {
        let name = format!("users/{name}");
        if let Some(now) = now {
            self.cast.world.people.insert(name.clone(), held(&name, uid, now));
        }
        self.cast.principals.push(Principal { name, known_as: None, bearer });
    }

    /// People with bearers, and then what some of them lose.
    async fn people(&mut self, people: &People) {
        let admin = self.gateway.admin.clone();
        self.steady(people).await;
        let side = [(DEVELOPER, SIDE)];
        self.add("removed", "", &people.removed, Some(&side)).await;
        let disabled = admin.sign_up("disabled", &[("roles/administrator", "")]).await;
        self.add("disabled", "", &disabled, None).await;
        let again = admin.sign_up("again", &[]).await;
        admin.add_member(CORE, &again.name, "").await;
        self.add_with("again, with the bearer of before", "", again.bearer().await, None);
        let unbound = admin.sign_up("unbound", &[(DEVELOPER, ""), (DEVELOPER, CORE)]).await;
        self.add("unbound", "", &unbound, Some(&[(DEVELOPER, CORE)])).await;
        let edited = admin.sign_up("edited", &[("roles/caller", "")]).await;
        self.add("edited", "", &edited, Some(&[("roles/caller", "")])).await;
        let back = admin.sign_up("back", &side).await;
        admin.add_member(CORE, &back.name, "").await;
        self.add_with("back, with the bearer of before", "", back.bearer().await, Some(&side));

        for person in [&people.removed, &back] {
            admin.remove_member(CORE, &person.name).await;
        }
        for person in [&people.suspended, &disabled, &again] {
            admin.disable(&person.name).await;
        }
        admin.enable(&again.name).await;
        admin.unbind(&unbound.name, DEVELOPER, "").await;
        admin.edit_role("roles/caller", &["registry.read"]).await;
        admin.add_member(CORE, &back.name, "").await;

        let of_core = [(DEVELOPER, CORE)];
        self.add("again", "", &again.sign_in().await, Some(&of_core)).await;
        self.add("back", "", &back, Some(&[side[0], of_core[0]])).await;
    }

    /// Those who lose nothing.
    async fn steady(&mut self, people: &People) {
        let admin = self.gateway.admin.clone();
        self.add("owner", OWNER, &people.owner, Some(&[(DEVELOPER, SIDE)])).await;
        self.add("member", "", &people.member, Some(&[(DEVELOPER, CORE)])).await;
        for (id, roles) in [
            ("administrator", &[("roles/administrator", "")][..]),
            ("auditor", &[("roles/auditor", "")]),
            ("developer", &[(DEVELOPER, "")]),
            ("colleague", &[(DEVELOPER, SIDE)]),
            ("bound", &[(DEVELOPER, CORE)]),
            ("stranger", &[]),
        ] {
            let person = admin.sign_up(id, roles).await;
            self.add(id, "", &person, Some(roles)).await;
        }
        let viewer = admin.sign_up("viewer", &[(VIEWER, "")]).await;
        admin.add_member(CORE, &viewer.name, VIEWER).await;
        self.add("viewer", "", &viewer, Some(&[(VIEWER, ""), (VIEWER, CORE)])).await;
        let narrow = admin.sign_up("narrow", &[]).await;
        admin.add_member("teams/narrow", &narrow.name, "").await;
        self.add("narrow", "", &narrow, Some(&[(DEVELOPER, "teams/narrow")])).await;
        let robot = admin.create_service_account("robot").await;
        admin.add_member(CORE, &robot.name, "").await;
        self.add("robot", "", &robot, Some(&[(DEVELOPER, CORE)])).await;
    }
}

/// A scope as the reference has it.
fn plainly(scope: &Scope) -> world::Scope {
    let Scope { servers, tools, resources, prompts } = scope.clone();
    world::Scope { servers, tools, resources, prompts }
}

fn conditions(given: Conditions) -> world::Conditions {
    let Conditions { methods, from, not_before, windows, rates, quotas } = given;
    world::Conditions {
        methods,
        from,
        not_before_s: not_before.map(|time| time.seconds),
        windows,
        limits: [rates, quotas].concat(),
    }
}

fn server(owner_uid: &str, team: &str, public: bool) -> world::Server {
    let entries = |names: &[&str]| {
        let entry = |name: &&str| world::Entry { name: (*name).to_owned(), ..world::Entry::default() };
        names.iter().map(entry).collect()
    };
    world::Server {
        owner_uid: owner_uid.to_owned(),
        team: team.to_owned(),
        public,
        tools: entries(&TOOLS),
        resources: entries(&RESOURCES),
        templates: entries(&TEMPLATES),
        prompts: entries(&PROMPTS),
        rules: Rules::default(),
    }
}
