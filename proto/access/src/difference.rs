//! Who gains and who loses what between two worlds: every decision is made twice, by the code that decides about requests.
//!
//! When and from where a token may be used is nothing that it gains or loses. It must not know what made the worlds differ.

mod loosened;

use std::collections::{BTreeMap, BTreeSet};

use self::loosened::{Binding, loosened};
use crate::decide::{Reason, Request, decide};
use crate::world::{Entry, Family, Held, Server, Token, World};

/// What somebody gains or loses at one server: those of whom the same is true.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessMove {
    /// Their names, sorted.
    pub principals: Vec<String>,
    /// `servers/{server}`.
    pub server: String,
    /// What they may use that they could not, sorted.
    pub gained: Vec<Thing>,
    /// What they could use and may not any more, sorted.
    pub lost: Vec<Thing>,
    /// What they may use as far as rules decide which did not before, sorted.
    pub ruled: Vec<RuledThing>,
    /// The rules that bound them and do so no more, or otherwise, sorted.
    pub loosened: Vec<LoosenedRule>,
}

/// A rule that somebody was bound by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoosenedRule {
    /// The rule: `servers/{server}/rules/{rule}`.
    pub rule: String,
    /// What it did: `deny`, `approve`, `mask` or `allow`.
    pub effect: &'static str,
    /// Whether it still does, by another condition or of other members: that may be less.
    pub is_changed: bool,
    /// What it was about, sorted.
    pub things: Vec<Thing>,
}

/// Something of which rules decide call by call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuledThing {
    /// What it is.
    pub thing: Thing,
    /// The rules, sorted: `servers/{server}/rules/{rule}`.
    pub rules: Vec<String>,
}

/// Something of a server, by its exposed name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thing {
    /// What it is.
    pub family: Family,
    /// What clients see: a name, a URI or a URI template.
    pub name: String,
}

/// All that differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// By server, then by who.
    pub moves: Vec<AccessMove>,
    /// Whether more decisions were needed than may be made, so that some of it may be missing.
    pub cut: bool,
}

/// Works out what differs, by at most so many decisions, or fewer where rules make them take longer.
#[must_use]
pub fn difference(before: World, after: World, now_s: i64, decisions: usize) -> Difference {
    let alike = peers(&before, &after, now_s);
    let alone = one_by_one(&alike);
    let mut budget = Budget { left: decisions, is_exceeded: false };
    let mut sides = [Side::of(before, now_s), Side::of(after, now_s)];
    let names: BTreeSet<String> = sides.iter().flat_map(|side| side.whole.keys().cloned()).collect();
    let mut moves = Vec::new();
    for name in &names {
        if budget.is_exceeded {
            break;
        }
        // Where a server says more than whose it is, it may matter who somebody is, and not only what they hold.
        let all = if sides.iter().all(|side| side.is_plain(name)) { &alike } else { &alone };
        moves.extend(at_server(&mut sides, name, all, &mut budget));
    }
    Difference { moves, cut: budget.is_exceeded }
}

/// Somebody, as far as it decides anything who they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Nobody,
    Token(Box<Token>),
    Person(Held),
}

/// Those of whom every decision is the same.
struct Peers {
    /// Their names, sorted.
    names: Vec<String>,
    /// Whether what they hold differs itself.
    is_touched: bool,
}

/// The decisions that may still be made.
struct Budget {
    left: usize,
    is_exceeded: bool,
}

impl Budget {
    /// Takes off a decision about both sides, which take so much. Answers whether it may be made.
    fn spend(&mut self, of_both: usize) -> bool {
        self.is_exceeded |= self.left < of_both;
        self.left = self.left.saturating_sub(of_both);
        !self.is_exceeded
    }
}

/// Everybody of both worlds, by what decides about them.
fn peers(before: &World, after: &World, now_s: i64) -> Vec<Peers> {
    let (worlds, changed) = ([before, after], changed_grants(before, after));
    let servers = worlds.iter().flat_map(|world| world.servers.values());
    let owners: BTreeSet<&str> = servers.map(|server| server.owner_uid.as_str()).collect();
    let names = worlds.iter().flat_map(|world| world.tokens.keys().chain(world.people.keys()));
    let mut alike = BTreeMap::<[Who; 2], Vec<String>>::new();
    for name in names.collect::<BTreeSet<_>>() {
        let who = worlds.map(|world| who(world, name, &owners, now_s));
        alike.entry(who).or_default().push(name.clone());
    }
    let peers = alike.into_iter().map(|(who, names)| {
        let is_touched = who[0] != who[1] || who.iter().any(|who| who.holds_one_of(&changed));
        Peers { names, is_touched }
    });
    peers.collect()
}

/// The same, everybody for themselves.
fn one_by_one(peers: &[Peers]) -> Vec<Peers> {
    let alone =
        |peers: &Peers, name: &String| Peers { names: vec![name.clone()], is_touched: peers.is_touched };
    peers.iter().flat_map(|peers| peers.names.iter().map(move |name| alone(peers, name))).collect()
}

/// What everybody gains and loses at one server, by who that is.
fn at_server(sides: &mut [Side; 2], name: &str, all: &[Peers], budget: &mut Budget) -> Vec<AccessMove> {
    let things = Listed::of(sides[0].whole.get(name), sides[1].whole.get(name));
    sides.iter_mut().for_each(|side| side.open(name));
    let is_touched = sides[0].frame(name) != sides[1].frame(name);
    let changed: Vec<&Listed> = things.iter().filter(|listed| !listed.stays()).collect();
    let things: Vec<&Listed> = things.iter().collect();
    let mut moves = Vec::new();
    for peers in all {
        let things = if is_touched || peers.is_touched { &things } else { &changed };
        moves.extend(moved(sides, name, things, peers, budget));
    }
    sides.iter_mut().for_each(|side| side.close(name));
    moves.sort_by(|one, other| one.principals.cmp(&other.principals));
    moves
}

/// What some gain and lose of these things, if anything.
fn moved(
    sides: &mut [Side; 2],
    server: &str,
    things: &[&Listed],
    peers: &Peers,
    budget: &mut Budget,
) -> Option<AccessMove> {
    let name = peers.names.first().filter(|_| !things.is_empty())?;
    let of_both = sides.iter().map(|side| side.cost(server)).sum();
    if !budget.spend(2) || !sides.iter().any(|side| side.reaches(name, server)) {
        return None;
    }
    let mut found =
        AccessMove { principals: peers.names.clone(), server: server.to_owned(), ..AccessMove::default() };
    let [before, after] = sides;
    let mut less = BTreeMap::<(String, &'static str, bool), Vec<Thing>>::new();
    for listed in things {
        if !budget.spend(of_both) {
            break;
        }
        let thing = &listed.thing;
        let could = before.allows(name, server, thing, listed.before.as_ref());
        let can = after.allows(name, server, thing, listed.after.as_ref());
        match (&could, &can) {
            (None, Some(_)) => found.gained.push(thing.clone()),
            (Some(_), None) => found.lost.push(thing.clone()),
            _ => {}
        }
        if let (Some(could), Some(can)) = (&could, &can) {
            for rule in loosened(&could.binding, &can.binding) {
                less.entry(rule).or_default().push(thing.clone());
            }
        }
        let known = could.unwrap_or_default().open;
        let rules: BTreeSet<String> =
            can.unwrap_or_default().open.into_iter().filter(|rule| !known.contains(rule)).collect();
        if !rules.is_empty() {
            found.ruled.push(RuledThing { thing: thing.clone(), rules: rules.into_iter().collect() });
        }
    }
    let less = less.into_iter();
    found.loosened = less
        .map(|((rule, effect, is_changed), things)| LoosenedRule { rule, effect, is_changed, things })
        .collect();
    let is_any = !found.gained.is_empty()
        || !found.lost.is_empty()
        || !found.ruled.is_empty()
        || !found.loosened.is_empty();
    is_any.then_some(found)
}

impl Who {
    fn holds_one_of(&self, changed: &BTreeSet<String>) -> bool {
        let held = match self {
            Self::Nobody => None,
            Self::Token(token) => token.ceiling.as_ref(),
            Self::Person(held) => Some(held),
        };
        let pairs = held.into_iter().flat_map(|held| &held.pairs);
        pairs.into_iter().any(|pair| changed.contains(&pair.role) || changed.contains(&pair.team))
    }
}

/// Who has a name, without what no decision looks at.
fn who(world: &World, name: &str, owners: &BTreeSet<&str>, now_s: i64) -> Who {
    let held = |held: &Held| {
        let uid = if owners.contains(held.uid.as_str()) { held.uid.clone() } else { String::new() };
        Held { name: String::new(), uid, pairs: held.pairs.clone() }
    };
    if let Some(token) = world.tokens.get(name) {
        let token = timeless(token.clone(), now_s);
        return Who::Token(Box::new(Token { ceiling: token.ceiling.as_ref().map(held), ..token }));
    }
    world.people.get(name).map_or(Who::Nobody, |person| Who::Person(held(person)))
}

/// A token as it is where and when its conditions hold. Whether it is over stays said.
fn timeless(token: Token, now_s: i64) -> Token {
    let expires_s = token.expires_s.filter(|end| *end <= now_s).map(|_| 0);
    Token { expires_s, ..token.at_any_time() }
}

/// The roles and teams that give something else than before.
fn changed_grants(before: &World, after: &World) -> BTreeSet<String> {
    let roles = before.roles.keys().chain(after.roles.keys());
    let roles = roles.filter(|name| before.roles.get(*name) != after.roles.get(*name));
    let teams = before.teams.keys().chain(after.teams.keys());
    let teams = teams.filter(|name| before.teams.get(*name) != after.teams.get(*name));
    roles.chain(teams).cloned().collect()
}

/// Something that a server exposes in one world or both.
struct Listed {
    thing: Thing,
    before: Option<Entry>,
    after: Option<Entry>,
}

impl Listed {
    fn of(before: Option<&Server>, after: Option<&Server>) -> Vec<Self> {
        let mut found = BTreeMap::<(Family, &str), [Option<&Entry>; 2]>::new();
        for (at, server) in [before, after].into_iter().enumerate() {
            for (family, entries) in server.into_iter().flat_map(lists) {
                for entry in entries {
                    found.entry((family, &entry.name)).or_default()[at] = Some(entry);
                }
            }
        }
        let listed = found.into_iter().map(|((family, name), [before, after])| Self {
            thing: Thing { family, name: name.to_owned() },
            before: before.cloned(),
            after: after.cloned(),
        });
        listed.collect()
    }

    fn stays(&self) -> bool {
        self.before == self.after
    }
}

/// What a server exposes. A template is meant by its own text.
fn lists(server: &Server) -> [(Family, &[Entry]); 4] {
    [
        (Family::Tools, &server.tools),
        (Family::Resources, &server.resources),
        (Family::Resources, &server.templates),
        (Family::Prompts, &server.prompts),
    ]
}

/// What rules say of a thing that somebody may use.
#[derive(Debug, Default)]
struct Allowed {
    /// The rules that decide call by call.
    open: Vec<String>,
    /// What binds them, or may.
    binding: Vec<Binding>,
}

/// One of both worlds. Of the server that is looked at it shows one thing at a time, so that a decision costs the same however many
/// there are.
struct Side {
    world: World,
    /// The servers with all they expose.
    whole: BTreeMap<String, Server>,
    now_s: i64,
}

impl Side {
    fn of(mut world: World, now_s: i64) -> Self {
        let whole = std::mem::take(&mut world.servers);
        let tokens = std::mem::take(&mut world.tokens).into_iter();
        world.tokens = tokens.map(|(name, token)| (name, timeless(token, now_s))).collect();
        Self { world, whole, now_s }
    }

    /// A server without what it exposes.
    fn frame(&self, name: &str) -> Option<&Server> {
        self.world.servers.get(name)
    }

    fn open(&mut self, name: &str) {
        let Some(server) = self.whole.get(name) else { return };
        let frame = bare(server);
        self.world.servers.insert(name.to_owned(), frame);
    }

    /// How many decisions one about something of a server is worth: rules take their time.
    fn cost(&self, name: &str) -> usize {
        self.frame(name).map_or(1, |server| server.rules.cost().saturating_add(1))
    }

    /// Whether a server says no more of who may use it than whose it is.
    fn is_plain(&self, name: &str) -> bool {
        let Some(server) = self.whole.get(name) else { return true };
        let mut rest = bare(server);
        rest.owner_uid.clear();
        rest.team.clear();
        rest.public = false;
        rest == Server::default()
    }

    fn close(&mut self, name: &str) {
        self.world.servers.remove(name);
    }

    /// What rules say of the use of a thing of the server that is open. `None`: somebody may not use it.
    fn allows(
        &mut self,
        principal: &str,
        server: &str,
        thing: &Thing,
        entry: Option<&Entry>,
    ) -> Option<Allowed> {
        self.show(server, thing.family, vec![entry?.clone()]);
        let request = self.request(principal, server, thing.family, Some(thing.name.clone()));
        let decision = decide(&self.world, &request);
        self.show(server, thing.family, Vec::new());
        let rules = self.frame(server).map(|frame| &frame.rules);
        let binding = rules.map(|rules| Binding::at(rules, &decision.binding)).unwrap_or_default();
        decision.granted().then_some(Allowed { open: decision.open, binding })
    }

    fn show(&mut self, server: &str, family: Family, entries: Vec<Entry>) {
        let Some(frame) = self.world.servers.get_mut(server) else { return };
        match family {
            Family::Tools => frame.tools = entries,
            Family::Resources => frame.resources = entries,
            Family::Prompts => frame.prompts = entries,
        }
    }

    /// Whether somebody may use anything at all of the server that is open.
    fn reaches(&self, principal: &str, server: &str) -> bool {
        [Family::Tools, Family::Resources, Family::Prompts].into_iter().any(|family| {
            let request = self.request(principal, server, family, None);
            !decide(&self.world, &request).refused.is_some_and(shuts_out)
        })
    }

    fn request(&self, principal: &str, server: &str, family: Family, target: Option<String>) -> Request {
        Request {
            principal: principal.to_owned(),
            server: server.to_owned(),
            method: family.used_by().to_owned(),
            target,
            now_s: self.now_s,
            at_any_time: true,
            from_anywhere: true,
            ..Request::default()
        }
    }
}

/// A server without what it exposes.
fn bare(server: &Server) -> Server {
    let mut bare = server.clone();
    for list in [&mut bare.tools, &mut bare.resources, &mut bare.templates, &mut bare.prompts] {
        list.clear();
    }
    bare
}

/// Whether a request that is refused for this is refused whatever it names.
fn shuts_out(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::UnknownPrincipal
            | Reason::Revoked
            | Reason::Expired
            | Reason::Suspended
            | Reason::UnreadableLimit
            | Reason::MethodNotGranted
            | Reason::UnknownServer
            | Reason::ServerNotGranted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Effect, Rule, Rules};
    use crate::world::{Conditions, Pair, Role, Scope};

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn server(tools: &[&str]) -> Server {
        let entry = |name: &&str| Entry { name: (*name).to_owned(), ..Entry::default() };
        Server {
            team: "teams/core".to_owned(),
            tools: tools.iter().map(entry).collect(),
            ..Server::default()
        }
    }

    fn token(tools: &[&str]) -> Token {
        let scope = Scope { servers: texts(&["servers/dev"]), tools: texts(tools), ..Scope::default() };
        Token { scope, ..Token::default() }
    }

    fn held(uid: &str, role: &str) -> Held {
        let pair = Pair { role: format!("roles/{role}"), team: "teams/core".to_owned() };
        Held { name: format!("users/{uid}"), uid: uid.to_owned(), pairs: [pair].into() }
    }

    fn world() -> World {
        let mut world = World::default();
        world.servers.insert("servers/dev".to_owned(), server(&["dev_list", "dev_write"]));
        world.tokens.insert("tokens/all".to_owned(), token(&["*"]));
        world.tokens.insert("tokens/lists".to_owned(), token(&["dev_l*"]));
        for uid in ["ann", "bob"] {
            world.people.insert(format!("users/{uid}"), held(uid, "developer"));
        }
        world.people.insert("users/eve".to_owned(), held("eve", "viewer"));
        world.roles.insert("roles/developer".to_owned(), Role { may_call: true, every_server: false });
        world.roles.insert("roles/viewer".to_owned(), Role::default());
        world.teams.insert("teams/core".to_owned(), Scope { servers: Vec::new(), ..Scope::all() });
        world
    }

    fn told(before: World, after: World) -> Vec<String> {
        let found = difference(before, after, 1_000, 1_000_000);
        assert!(!found.cut);
        let names =
            |things: &[Thing]| things.iter().map(|thing| thing.name.as_str()).collect::<Vec<_>>().join(" ");
        let line = |moved: &AccessMove| {
            let [gained, lost] = [&moved.gained, &moved.lost].map(|things| names(things));
            format!("{} {} +[{gained}] -[{lost}]", moved.principals.join(","), moved.server)
        };
        found.moves.iter().map(line).collect()
    }

    /// What a change of the world says.
    fn change(change: impl FnOnce(&mut World)) -> Vec<String> {
        let mut after = world();
        change(&mut after);
        told(world(), after)
    }

    fn change_of_token(change_it: impl FnOnce(&mut Token)) -> Vec<String> {
        change(|world| change_it(world.tokens.get_mut("tokens/all").unwrap()))
    }

    const LOSES_ALL: [&str; 1] = ["tokens/all servers/dev +[] -[dev_list dev_write]"];

    #[test]
    fn where_nothing_differs_nobody_gains_or_loses() {
        assert_eq!(told(world(), world()), Vec::<String>::new());
    }

    #[test]
    fn a_tool_that_comes_and_one_that_goes_are_told_of_those_who_may_use_them() {
        let changed = change(|world| {
            world.servers.insert("servers/dev".to_owned(), server(&["dev_list", "dev_look"]));
        });
        let expected = [
            "tokens/all servers/dev +[dev_look] -[dev_write]",
            "tokens/lists servers/dev +[dev_look] -[]",
            "users/ann,users/bob servers/dev +[dev_look] -[dev_write]",
        ];
        assert_eq!(changed.len(), 3, "{changed:?}");
        assert!(expected.iter().all(|line| changed.contains(&(*line).to_owned())), "{changed:?}");
    }

    #[test]
    fn a_server_that_changes_hands_is_lost_by_who_had_it_through_the_team() {
        let moved = change(|world| world.servers.get_mut("servers/dev").unwrap().team.clear());
        assert_eq!(moved, ["users/ann,users/bob servers/dev +[] -[dev_list dev_write]"]);
        let owned = change(|world| {
            let server = world.servers.get_mut("servers/dev").unwrap();
            server.team.clear();
            server.owner_uid = "ann".to_owned();
        });
        assert_eq!(owned, ["users/bob servers/dev +[] -[dev_list dev_write]"]);
        let gone = change(|world| world.servers.clear());
        assert_eq!(gone.len(), 3, "{gone:?}");
    }

    #[test]
    fn every_field_of_a_token_that_decides_counts() {
        assert_eq!(change_of_token(|token| token.revoked = true), LOSES_ALL);
        assert_eq!(change_of_token(|token| token.suspended = true), LOSES_ALL);
        assert_eq!(change_of_token(|token| token.expires_s = Some(1_000)), LOSES_ALL);
        assert_eq!(change_of_token(|token| token.scope.servers.clear()), LOSES_ALL);
        assert_eq!(change_of_token(|token| token.conditions.methods = texts(&["prompts/get"])), LOSES_ALL);
        assert_eq!(change_of_token(|token| token.ceiling = Some(held("eve", "viewer"))), LOSES_ALL);
        let narrowed = change_of_token(|token| token.scope.tools = texts(&["dev_list"]));
        assert_eq!(narrowed, ["tokens/all servers/dev +[] -[dev_write]"]);
        assert_eq!(change(|world| drop(world.tokens.remove("tokens/all"))), LOSES_ALL);
    }

    #[test]
    fn when_and_from_where_is_nothing_that_is_gained_or_lost() {
        let changed = change_of_token(|token| {
            token.expires_s = Some(2_000);
            token.conditions = Conditions {
                from: texts(&["10.0.0.0/8"]),
                windows: texts(&["Mon-Fri 08:00-18:00 Europe/Berlin"]),
                not_before_s: Some(5_000),
                ..Conditions::default()
            };
        });
        assert_eq!(changed, Vec::<String>::new());
    }

    #[test]
    fn roles_and_teams_take_with_them_who_holds_them() {
        let edited = change(|world| {
            world.roles.insert("roles/developer".to_owned(), Role::default());
        });
        assert_eq!(edited, ["users/ann,users/bob servers/dev +[] -[dev_list dev_write]"]);
        let scoped = change(|world| {
            world.teams.get_mut("teams/core").unwrap().tools = texts(&["dev_list"]);
        });
        assert_eq!(scoped, ["users/ann,users/bob servers/dev +[] -[dev_write]"]);
        let bound =
            change(|world| drop(world.people.insert("users/eve".to_owned(), held("eve", "developer"))));
        assert_eq!(bound, ["users/eve servers/dev +[dev_list dev_write] -[]"]);
    }

    #[test]
    fn what_rules_decide_call_by_call_from_now_on_is_told_with_the_rules() {
        let with_rule = |when: &str| {
            let mut world = world();
            let rule = Rule {
                id: "servers/dev/rules/only-z".to_owned(),
                effect: Effect::Deny,
                tools: texts(&["dev_write"]),
                when: when.to_owned(),
                ..Rule::default()
            };
            world.servers.get_mut("servers/dev").unwrap().rules = Rules::compile(&[rule]);
            world
        };
        let found = difference(world(), with_rule("args.path == 'z'"), 1_000, 1_000_000);
        let thing = Thing { family: Family::Tools, name: "dev_write".to_owned() };
        let ruled = vec![RuledThing { thing, rules: texts(&["servers/dev/rules/only-z"]) }];
        let all = found.moves.iter().flat_map(|moved| &moved.principals).cloned().collect::<Vec<_>>();
        assert_eq!(all, ["tokens/all", "users/ann", "users/bob"]);
        assert!(found.moves.iter().all(|moved| moved.ruled == ruled && moved.lost.is_empty()), "{found:?}");
        let same = difference(with_rule("args.path == 'z'"), with_rule("args.path == 'z'"), 1_000, 1_000_000);
        assert!(same.moves.is_empty(), "{same:?}");
    }

    /// The dangerous direction: what a rule bound is free, or bound by less.
    #[test]
    fn a_rule_that_is_taken_away_or_loosened_is_told_with_what_it_was_about() {
        let with = |rules: &[(&str, Effect, &str, &[&str])]| {
            let mut world = world();
            let rules = rules.iter().map(|(id, effect, when, fields)| Rule {
                id: format!("servers/dev/rules/{id}"),
                effect: *effect,
                tools: texts(&["dev_write"]),
                when: (*when).to_owned(),
                fields: texts(fields),
                ..Rule::default()
            });
            let rules: Vec<_> = rules.collect();
            world.servers.get_mut("servers/dev").unwrap().rules = Rules::compile(&rules);
            world
        };
        let before = with(&[
            ("no-etc", Effect::Deny, "args.path == '/etc'", &[]),
            ("deletes", Effect::Approve, "", &[]),
            ("emails", Effect::Mask, "", &["email", "name"]),
        ]);
        let told = |after: World| {
            let found = difference(before.clone(), after, 1_000, 1_000_000);
            let laptop = found.moves.into_iter().find(|moved| moved.principals == ["tokens/all"]);
            let line = |rule: LoosenedRule| {
                let names: Vec<_> = rule.things.iter().map(|thing| thing.name.as_str()).collect();
                format!("{} {} {} {}", rule.rule, rule.effect, rule.is_changed, names.join(" "))
            };
            let moved = laptop.unwrap_or_default();
            assert!(moved.gained.is_empty() && moved.lost.is_empty(), "{moved:?}");
            moved.loosened.into_iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(
            told(world()),
            [
                "servers/dev/rules/deletes approve false dev_write",
                "servers/dev/rules/emails mask false dev_write",
                "servers/dev/rules/no-etc deny false dev_write",
            ]
        );
        let less = with(&[
            ("no-etc", Effect::Deny, "args.path == '/etc'", &[]),
            ("deletes", Effect::Approve, "args.path == '/etc'", &[]),
            ("emails", Effect::Mask, "", &["email"]),
        ]);
        assert_eq!(
            told(less),
            [
                "servers/dev/rules/deletes approve true dev_write",
                "servers/dev/rules/emails mask true dev_write",
            ]
        );
        assert_eq!(told(before.clone()), Vec::<String>::new());
    }

    #[test]
    fn resources_and_prompts_are_told_as_what_they_are() {
        let entry = |name: &str| vec![Entry { name: name.to_owned(), ..Entry::default() }];
        let mut after = world();
        let server = after.servers.get_mut("servers/dev").unwrap();
        server.resources = entry("docs://one");
        server.templates = entry("docs://{page}");
        server.prompts = entry("review");
        let found = difference(world(), after, 1_000, 1_000_000);
        let thing = |family, name: &str| Thing { family, name: name.to_owned() };
        let expected = [
            thing(Family::Resources, "docs://one"),
            thing(Family::Resources, "docs://{page}"),
            thing(Family::Prompts, "review"),
        ];
        let people = found.moves.iter().find(|moved| moved.principals == ["users/ann", "users/bob"]);
        assert_eq!(people.unwrap().gained, expected);
    }

    #[test]
    fn what_takes_more_decisions_than_there_are_is_cut_and_says_so() {
        let mut before = world();
        let tools: Vec<String> = (0..10_000).map(|number| format!("dev_{number}")).collect();
        before
            .servers
            .insert("servers/dev".to_owned(), server(&tools.iter().map(String::as_str).collect::<Vec<_>>()));
        for number in 0..1_000 {
            before.tokens.insert(format!("tokens/t{number}"), token(&[&format!("dev_{number}*")]));
        }
        let found =
            difference(before.clone(), World { servers: BTreeMap::new(), ..before.clone() }, 1_000, 5_000);
        assert!(found.cut);
        let lost: usize = found.moves.iter().map(|moved| moved.lost.len()).sum();
        assert!(lost <= 5_000, "{lost}");
        // Those of whom the same is true cost as much as one of them.
        before.tokens.values_mut().for_each(|known| *known = token(&["dev_1"]));
        let found = difference(before.clone(), World { servers: BTreeMap::new(), ..before }, 1_000, 100_000);
        assert!(!found.cut);
        assert_eq!(found.moves.iter().map(|moved| moved.principals.len()).max(), Some(1_002));
    }

    /// Rules take their time, and so fewer decisions are made.
    #[test]
    fn decisions_under_rules_count_for_more() {
        let ruled = |rules: usize, when: &str| {
            let mut world = world();
            let rule = Rule {
                id: "servers/dev/rules/r".to_owned(),
                effect: Effect::Deny,
                when: when.to_owned(),
                ..Rule::default()
            };
            world.servers.get_mut("servers/dev").unwrap().rules = Rules::compile(&vec![rule; rules]);
            world
        };
        let long = format!("args.path == '{}'", "x".repeat(1_280));
        assert_eq!(
            [
                ruled(0, "").servers["servers/dev"].rules.cost(),
                ruled(2, "").servers["servers/dev"].rules.cost()
            ],
            [0, 2]
        );
        assert_eq!(ruled(2, &long).servers["servers/dev"].rules.cost(), 22);
        let cut = |rules: usize, when: &str| difference(world(), ruled(rules, when), 1_000, 150).cut;
        assert_eq!([cut(2, ""), cut(2, &long), cut(60, "")], [false, true, true]);
    }
}
