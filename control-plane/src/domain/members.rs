//! The exposure of a virtual server: its members, evaluated over a catalogue. Pure, and the same function for
//! checking a write, for showing the entries, and for the projection to edges.

use std::collections::{HashMap, HashSet};
use std::fmt;

use mcp::uri::naming;
use trunkline::common::v1::Visibility;
use trunkline::registry::v1::{Member, Server};

use super::catalogue::{Entry, UpstreamEntry};
use super::overlap::TakenUris;
use super::{Catalogue, Kind, Steps, exposed, names};
use crate::rights::Ownership;

/// The two parts of a `match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The upstream's id, or a pattern for it.
    pub upstream: &'a str,
    /// The entry's own name, or a pattern for it.
    pub own: &'a str,
}

impl<'a> Target<'a> {
    /// Takes a `match` apart.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (upstream, own) = text.split_once('/')?;
        (!upstream.is_empty() && !own.is_empty()).then_some(Self { upstream, own })
    }
}

/// One thing that a server exposes.
#[derive(Debug, Clone)]
pub struct Exposed<'a> {
    /// `Kind::Tool`, `Kind::Resource` or `Kind::Prompt`.
    pub kind: Kind,
    /// The entry of the catalogue.
    pub entry: &'a Entry,
    /// Whose its upstream is.
    pub ownership: &'a Ownership,
    /// The member that selected it.
    pub member: &'a Member,
    /// The index of that member among those of its kind.
    index: usize,
    /// The name that clients see.
    pub exposed_name: String,
    /// For resources: what the upstream's own URI is exposed under, by [`naming::expose`].
    pub uri_prefix: String,
}

impl Exposed<'_> {
    /// The word for what it is, as `ServerEntry.kind` has it.
    pub fn word(&self) -> &'static str {
        match self.kind {
            Kind::Resource if self.entry.template => "resource_template",
            Kind::Resource => "resource",
            Kind::Prompt => "prompt",
            _ => "tool",
        }
    }
}

/// What two entries cannot both have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Collision {
    /// The exposed name.
    Name,
    /// A URI: the template of one upstream, which is older, leads to what another exposes.
    Uri,
}

/// Two entries that would have the same exposed name, or lead the same URI to two upstreams.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Conflict {
    /// What they share.
    pub collision: Collision,
    /// The exposed name of the entry that is left out.
    pub exposed_name: String,
    /// The entry that is exposed: the one that is older.
    pub kept: String,
    /// The entry that is left out.
    pub left_out: String,
    /// The field of the member that selected the one left out.
    pub field: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exposed_name, kept, left_out, .. } = self;
        match self.collision {
            Collision::Name => write!(f, "{exposed_name}: {kept} is exposed, {left_out} is not"),
            Collision::Uri => write!(f, "{exposed_name}: its URIs lead to {kept}, {left_out} is not exposed"),
        }
    }
}

/// The steps in which the members of a server are compared with what upstreams have, some 0.05 s.
pub const MAX_STEPS: usize = 50_000_000;

/// The entries that a server exposes, and those it cannot.
#[derive(Debug, Default)]
pub struct Exposure<'a> {
    /// Sorted by word, then in the order in which clients see them: as the members were written, and within one as the
    /// upstreams list them. Word and exposed name together are unique.
    pub entries: Vec<Exposed<'a>>,
    /// Matches without `*` that select nothing.
    pub unresolved: Vec<String>,
    /// The fields of members that select nothing which an earlier one does not govern.
    pub shadowed: Vec<String>,
    /// Entries left out because of their names.
    pub conflicts: Vec<Conflict>,
    /// The field of the first member that was not looked at, because comparing takes too long. What is before it stays.
    pub too_much: Option<String>,
    /// The steps that it took.
    pub steps: usize,
}

impl<'a> Exposure<'a> {
    /// The entries of a kind, templates among the resources.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Exposed<'a>> {
        self.entries.iter().filter(move |exposed| exposed.kind == kind)
    }

    /// Estimates the bytes in which edges are sent it. Hints, which are short, are not counted.
    fn bytes(&self) -> usize {
        /// Tags and lengths of an entry.
        const FRAMING: usize = 10;
        let quoted = |text: &str| if text.is_empty() { 0 } else { mcp::json::quote(text).len() };
        let bytes = |exposed: &Exposed<'_>| {
            let names = exposed.exposed_name.len() + exposed.entry.name.len() + exposed.uri_prefix.len();
            names + quoted(&exposed.member.title) + quoted(&exposed.member.description) + FRAMING
        };
        self.entries.iter().map(bytes).sum()
    }

    /// Returns why a part of it is left out, or edges cannot be sent it, and what to do.
    pub fn excess(&self) -> Option<String> {
        if let Some(field) = &self.too_much {
            return Some(format!(
                "what its members match takes too long to be found, so those from {field} on select nothing; {LESS}"
            ));
        }
        let (bytes, max) = (self.bytes(), delta::MAX_RESOURCE_BYTES);
        (bytes > max).then(|| {
            format!(
                "its entries take about {bytes} bytes, and edges take {max}, so they keep the version of it that they \
                 have; select fewer entries, or split it into several servers"
            )
        })
    }
}

/// What to do where comparing takes too long.
pub const LESS: &str = "use fewer patterns, or such with fewer `*`";

/// The three lists of a server's members.
pub fn lists(server: &Server) -> [(Kind, &[Member]); 3] {
    [(Kind::Tool, &server.tools), (Kind::Resource, &server.resources), (Kind::Prompt, &server.prompts)]
}

/// Evaluates a server. The first member that selects an entry governs it; stale and disabled entries, and
/// those of upstreams that are disabled or not for it, are out; of two entries with one name the older one stays, and so does the
/// older one of a template of one upstream and what it leads to of another.
pub fn evaluate<'a>(server: &'a Server, catalogue: &'a Catalogue) -> Exposure<'a> {
    evaluate_within(server, catalogue, &mut Steps::new(MAX_STEPS))
}

/// The same in so many steps. Members for which none are left select nothing.
pub fn evaluate_within<'a>(server: &'a Server, catalogue: &'a Catalogue, steps: &mut Steps) -> Exposure<'a> {
    evaluate_as(server, &catalogue.selecting_as(server), catalogue, steps)
}

/// The same of a server that selects as if it belonged so.
pub fn evaluate_as<'a>(
    server: &'a Server,
    own: &Ownership,
    catalogue: &'a Catalogue,
    steps: &mut Steps,
) -> Exposure<'a> {
    let mut exposure = Exposure::default();
    let before = steps.taken();
    for (kind, members) in lists(server) {
        let mut chosen = select(kind, members, (own, catalogue), steps, &mut exposure);
        chosen.sort_by(|a, b| a.entry.age().cmp(&b.entry.age()));
        let mut taken: HashMap<(bool, String), &str> = HashMap::with_capacity(chosen.len());
        let mut taken_uris = TakenUris::default();
        for choice in chosen {
            let (exposed_name, uri_prefix) = appearance(server, kind, &choice);
            let slot = (choice.entry.template, exposed_name.clone());
            let mut kept = taken.get(&slot).map(|kept| (Collision::Name, *kept));
            if kept.is_none() && kind == Kind::Resource {
                let (upstream, template) = (&choice.upstream.id, choice.entry.template);
                let owner = taken_uris.owner(upstream, &exposed_name, template);
                kept = owner.map(|owner| (Collision::Uri, owner));
            }
            if let Some((collision, kept)) = kept {
                exposure.conflicts.push(Conflict {
                    collision,
                    exposed_name,
                    kept: kept.to_owned(),
                    left_out: choice.entry.name.clone(),
                    field: format!("{}[{}]", kind.collection(), choice.index),
                });
                continue;
            }
            if choice.entry.template {
                taken_uris.take_template(&choice.upstream.id, &exposed_name, &choice.entry.name);
            } else if kind == Kind::Resource {
                taken_uris.take_uri(&choice.upstream.id, &exposed_name, &choice.entry.name);
            }
            taken.insert(slot, &choice.entry.name);
            exposure.entries.push(Exposed {
                kind,
                entry: choice.entry,
                ownership: &choice.upstream.ownership,
                member: choice.member,
                index: choice.index,
                exposed_name,
                uri_prefix,
            });
        }
    }
    exposure.entries.sort_by_cached_key(|exposed| {
        let upstream = names::upstream_id(&exposed.entry.name).unwrap_or_default().to_owned();
        (exposed.word(), exposed.index, upstream, exposed.entry.position, exposed.entry.name.clone())
    });
    exposure.steps = steps.taken() - before;
    exposure
}

/// Tells whether a server that belongs so may select from an upstream. Those of the installation may from all that they name, and by a
/// pattern from what is the installation's or public: nobody gets into one by making something. Others may from what is public, from
/// what is shared with their team, and from what is their owner's. What their owner shares with nobody is selected where its owner
/// alone writes the server, or where it is named: a pattern that somebody else of the team writes reaches no further than they do.
pub fn may_use(own: &Ownership, upstream: &UpstreamEntry, is_named: bool) -> bool {
    let of = &upstream.ownership;
    if own.owner.is_empty() && own.team.is_empty() {
        let is_installations = of.owner.is_empty() && of.team.is_empty();
        return is_named || is_installations || of.visibility == Visibility::Public;
    }
    let same_team = !own.team.is_empty() && own.team == of.team && of.visibility == Visibility::Team;
    let same_owner = !own.owner.is_empty() && own.owner == of.owner;
    let is_shared = !own.team.is_empty() && own.visibility != Visibility::Private;
    of.visibility == Visibility::Public || same_team || (same_owner && (is_named || !is_shared))
}

struct Choice<'a> {
    upstream: &'a UpstreamEntry,
    entry: &'a Entry,
    member: &'a Member,
    index: usize,
}

fn select<'a>(
    kind: Kind,
    members: &'a [Member],
    (own, catalogue): (&Ownership, &'a Catalogue),
    steps: &mut Steps,
    exposure: &mut Exposure<'a>,
) -> Vec<Choice<'a>> {
    let mut chosen = Vec::new();
    let mut governed: HashSet<&str> = HashSet::new();
    for (index, member) in members.iter().enumerate() {
        let Some(target) = Target::parse(&member.r#match) else { continue };
        let (mut found, mut governs) = (false, false);
        let is_named = !glob::is_pattern(target.upstream);
        let for_it = |upstream: &&UpstreamEntry| !upstream.disabled && may_use(own, upstream, is_named);
        let mut is_enough = steps.take(catalogue.steps(target.upstream));
        for upstream in catalogue.upstreams(target.upstream).filter(for_it) {
            is_enough = is_enough && steps.take(upstream.steps(kind, target.own));
            if !is_enough {
                break;
            }
            for entry in upstream.entries(kind, target.own) {
                if !selects(member, upstream, entry) {
                    continue;
                }
                found = true;
                if governed.insert(&entry.name) {
                    governs = true;
                    chosen.push(Choice { upstream, entry, member, index });
                }
            }
        }
        if !is_enough {
            exposure.too_much.get_or_insert_with(|| format!("{}[{index}]", kind.collection()));
            break;
        }
        if !found && !glob::is_pattern(&member.r#match) {
            exposure.unresolved.push(member.r#match.clone());
        }
        if found && !governs {
            exposure.shadowed.push(format!("{}[{index}]", kind.collection()));
        }
    }
    chosen
}

fn selects(member: &Member, upstream: &UpstreamEntry, entry: &Entry) -> bool {
    let carries = |(key, value): (&String, &String)| {
        entry.labels.get(key) == Some(value) || upstream.labels.get(key) == Some(value)
    };
    entry.available
        && member.read_only.is_none_or(|wanted| wanted == entry.read_only)
        && member.labels.iter().all(carries)
}

fn appearance(server: &Server, kind: Kind, choice: &Choice<'_>) -> (String, String) {
    if !choice.member.alias.is_empty() {
        return (choice.member.alias.clone(), String::new());
    }
    let (style, upstream, own) = (server.name_style(), &choice.upstream.id, &choice.entry.own);
    if kind == Kind::Resource {
        let prefix = exposed::uri_prefix(style, upstream);
        (naming::expose(&prefix, own), prefix)
    } else {
        (exposed::name(style, upstream, own), String::new())
    }
}

#[cfg(test)]
mod tests {
    use trunkline::common::v1::Meta;
    use trunkline::registry::v1::{NameStyle, Resource, Tool, Upstream};

    use super::*;

    #[test]
    fn clients_see_members_as_written_and_within_one_what_upstreams_list_as_they_list_it() {
        let mut catalogue = Catalogue::default();
        for (upstream, own) in [("b", ["z", "m", "a"]), ("a", ["y", "k", "x"])] {
            catalogue.put_upstream(&Upstream { name: format!("upstreams/{upstream}"), ..Default::default() });
            for (position, own) in own.iter().enumerate() {
                catalogue.put_tool(&Tool {
                    name: format!("upstreams/{upstream}/tools/{own}"),
                    position: position as i32,
                    ..Default::default()
                });
            }
        }
        let member = |text: &str| Member { r#match: text.to_owned(), ..Default::default() };
        let seen = |members: &[&str]| -> Vec<String> {
            let server =
                Server { tools: members.iter().map(|text| member(text)).collect(), ..Default::default() };
            let exposure = evaluate(&server, &catalogue);
            exposure.entries.into_iter().map(|exposed| exposed.exposed_name).collect()
        };
        assert_eq!(seen(&["*/*"]), ["a_y", "a_k", "a_x", "b_z", "b_m", "b_a"]);
        assert_eq!(seen(&["b/a", "a/x", "b/*"]), ["b_a", "a_x", "b_z", "b_m"]);
        let shadowed = |members: &[&str]| {
            let server =
                Server { tools: members.iter().map(|text| member(text)).collect(), ..Default::default() };
            evaluate(&server, &catalogue).shadowed
        };
        assert_eq!(shadowed(&["b/*", "b/a", "a/x", "*/x"]), ["tools[1]", "tools[3]"]);
        assert_eq!(shadowed(&["b/a", "b/*", "none/*"]), [""; 0]);
    }

    #[test]
    fn members_that_take_too_long_to_be_compared_select_nothing() {
        let mut catalogue = Catalogue::default();
        catalogue.put_upstream(&Upstream { name: "upstreams/a".to_owned(), ..Default::default() });
        for own in 0..10_000 {
            let name = names::entry(Kind::Tool, "a", &format!("{own:064}"));
            catalogue.put_tool(&Tool { name, ..Default::default() });
        }
        let member = |text: String| Member { r#match: text, ..Default::default() };
        let greedy = (0..100).map(|number| member(format!("a/{}x{number}", "*0".repeat(15))));
        let tools = [member(format!("a/{:064}", 7))].into_iter().chain(greedy).collect();
        let server = Server { tools, ..Default::default() };
        let exposure = evaluate(&server, &catalogue);
        assert_eq!(exposure.entries.len(), 1, "what comes before it stays");
        assert!(exposure.steps <= MAX_STEPS, "{}", exposure.steps);
        assert_eq!(exposure.too_much.as_deref(), Some("tools[5]"));
        assert!(exposure.excess().unwrap().contains("tools[5]"));
        let mut few = Steps::new(0);
        assert_eq!(evaluate_within(&server, &catalogue, &mut few).too_much.as_deref(), Some("tools[0]"));
    }

    #[test]
    fn a_server_of_who_left_the_team_selects_nothing_of_it() {
        let meta = |owner: &str, team: &str| Meta {
            owner: owner.to_owned(),
            team: team.to_owned(),
            visibility: Visibility::Team.into(),
            ..Default::default()
        };
        let mut catalogue = Catalogue::default();
        for (id, owner, team) in [("core", "", "teams/core"), ("own", "users/bob", "")] {
            let meta = Some(meta(owner, team));
            catalogue.put_upstream(&Upstream { name: names::upstream(id), meta, ..Default::default() });
            catalogue.put_tool(&Tool { name: names::entry(Kind::Tool, id, "x"), ..Default::default() });
        }
        let tools = ["*/*", "core/x"].map(|text| Member { r#match: text.to_owned(), ..Default::default() });
        let server = Server {
            tools: tools.into(),
            meta: Some(Meta { visibility: Visibility::Private.into(), ..meta("users/bob", "teams/core") }),
            ..Default::default()
        };
        let seen = |catalogue: &Catalogue| -> Vec<String> {
            evaluate(&server, catalogue).entries.into_iter().map(|exposed| exposed.exposed_name).collect()
        };
        assert_eq!(seen(&catalogue), ["core_x", "own_x"]);
        catalogue.put_outsiders([("users/bob".to_owned(), "teams/other".to_owned())].into());
        assert_eq!(seen(&catalogue), ["core_x", "own_x"]);
        catalogue.put_outsiders([("users/bob".to_owned(), "teams/core".to_owned())].into());
        assert_eq!(seen(&catalogue), ["own_x"]);
    }

    #[test]
    fn the_scheme_of_apps_stays_in_front() {
        let mut catalogue = Catalogue::default();
        catalogue.put_upstream(&Upstream { name: "upstreams/up".to_owned(), ..Default::default() });
        for uri in ["docs://a", "ui://w/1", "ui://{page}"] {
            let mut resource =
                Resource { name: names::entry(Kind::Resource, "up", uri), ..Default::default() };
            match uri.contains('{') {
                true => resource.uri_template = uri.to_owned(),
                false => resource.uri = uri.to_owned(),
            }
            catalogue.put_resource(&resource);
        }
        let member = Member { r#match: "*/*".to_owned(), ..Default::default() };
        let server = Server { resources: vec![member], ..Default::default() };
        let exposure = evaluate(&server, &catalogue);
        let mut seen: Vec<_> =
            exposure.entries.iter().map(|exposed| (&*exposed.exposed_name, &*exposed.uri_prefix)).collect();
        seen.sort_unstable();
        assert_eq!(seen, [("ui://up/w/1", "up+"), ("ui://up/{page}", "up+"), ("up+docs://a", "up+")]);
    }

    #[test]
    fn what_an_older_template_leads_to_is_not_exposed_for_another_upstream() {
        let mut catalogue = Catalogue::default();
        for id in ["thief", "victim"] {
            catalogue.put_upstream(&Upstream { name: format!("upstreams/{id}"), ..Default::default() });
        }
        let mut list = |upstream: &str, uri: &str, seconds: i64| {
            let time = prost_types::Timestamp { seconds, nanos: 0 };
            let meta = Meta { create_time: Some(time), uid: uri.to_owned(), ..Default::default() };
            let mut resource = Resource {
                name: names::entry(Kind::Resource, upstream, uri),
                meta: Some(meta),
                ..Default::default()
            };
            match uri.contains('{') {
                true => resource.uri_template = uri.to_owned(),
                false => resource.uri = uri.to_owned(),
            }
            catalogue.put_resource(&resource);
        };
        // The upstream that takes over was there first, and lists what it wants later.
        list("thief", "thief://{x}", 1);
        list("victim", "file:///{+path}", 2);
        list("thief", "file:///secrets/{+p}", 3);
        list("thief", "file:///public/readme", 3);
        list("thief", "thief://1", 3);
        list("victim", "file:///secrets/{+p}{?q}", 4);
        let member = Member { r#match: "*/*".to_owned(), ..Default::default() };
        let server = |style: NameStyle| Server {
            resources: vec![member.clone()],
            name_style: style.into(),
            ..Default::default()
        };
        let unprefixed = server(NameStyle::Unprefixed);
        let exposure = evaluate(&unprefixed, &catalogue);
        let mut seen: Vec<&str> =
            exposure.entries.iter().map(|exposed| exposed.exposed_name.as_str()).collect();
        seen.sort_unstable();
        assert_eq!(seen, ["file:///secrets/{+p}{?q}", "file:///{+path}", "thief://1", "thief://{x}"]);
        let mut conflicts: Vec<String> = exposure.conflicts.iter().map(ToString::to_string).collect();
        conflicts.sort_unstable();
        let victim = names::entry(Kind::Resource, "victim", "file:///{+path}");
        let left_out = |uri| {
            let thief = names::entry(Kind::Resource, "thief", uri);
            format!("{uri}: its URIs lead to {victim}, {thief} is not exposed")
        };
        assert_eq!(conflicts, ["file:///public/readme", "file:///secrets/{+p}"].map(left_out));
        let prefixed = server(NameStyle::Prefixed);
        let exposure = evaluate(&prefixed, &catalogue);
        assert_eq!((exposure.entries.len(), exposure.conflicts.len()), (6, 0));
    }
}
