//! The entries of upstreams, as far as the members of virtual servers select by them: names, labels, hints, and
//! whether it is there; and those servers. Kept current resource by resource; it knows nothing of where they come from.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::Arc;

use access::rule::Shape;
use trunkline::common::v1::Meta;
use trunkline::identity::v1::Team;
use trunkline::policy::v1::Rule;
use trunkline::registry::v1::{Prompt, Resource, Server, Tool, Upstream};

use super::argument_shape::Results;
use super::server_names::KnownNames;
use super::{Kind, KindRules, argument_shape, names};
use crate::clock;
use crate::rights::{Ownership, Rights};

/// All upstreams with their entries, and the virtual servers.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    upstreams: BTreeMap<String, UpstreamEntry>,
    /// The virtual servers, by name.
    servers: BTreeMap<String, Server>,
    /// The rules of teams that have some, by the name of the team.
    team_rules: BTreeMap<String, Vec<Rule>>,
    /// Owners of servers who have no part in the team of theirs, each with that team.
    outsiders: BTreeSet<(String, String)>,
    /// What was worked out from all of this so far.
    known_names: KnownNames,
}

/// An upstream.
#[derive(Debug, Clone, Default)]
pub struct UpstreamEntry {
    /// Its id.
    pub id: String,
    /// True when nothing of it is exposed.
    pub disabled: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whose it is.
    pub ownership: Ownership,
    entries: [BTreeMap<String, Entry>; 3],
    /// The bytes of the own names of each kind, and one more for each.
    name_bytes: [usize; 3],
}

/// A tool, resource, resource template or prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    /// Its resource name.
    pub name: String,
    /// Its own name, URI or URI template.
    pub own: String,
    /// True for a resource template.
    pub template: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its `readOnlyHint`; absent is false.
    pub read_only: bool,
    /// What its arguments can be, as far as that is said.
    pub arguments: Option<Arc<Shape>>,
    /// What its results can be, as far as that is said.
    pub results: Option<Arc<Results>>,
    /// Neither stale nor disabled.
    pub available: bool,
    /// Its position in the upstream's list.
    pub position: i32,
    created_us: i64,
    uid: String,
}

impl Entry {
    /// Sorts the older before the younger. (A uid grows with time, within one import too.)
    pub(super) fn age(&self) -> (i64, &str) {
        (self.created_us, &self.uid)
    }
}

impl UpstreamEntry {
    /// Tells whether it has no entries of any kind.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.iter().all(BTreeMap::is_empty)
    }

    /// The steps of finding the entries of a kind whose own name is, or matches, `own`.
    pub(super) fn steps(&self, kind: Kind, own: &str) -> usize {
        let Some(slot) = slot(kind) else { return 0 };
        match own {
            "*" => self.entries[slot].len(),
            own if glob::is_pattern(own) => glob::steps(own, 0) * self.name_bytes[slot],
            _ => 1,
        }
    }

    /// The entries of a kind whose own name is, or matches, `own`.
    pub fn entries<'a>(&'a self, kind: Kind, own: &'a str) -> Box<dyn Iterator<Item = &'a Entry> + 'a> {
        let Some(all) = slot(kind).map(|slot| &self.entries[slot]) else { return Box::new(iter::empty()) };
        if own == "*" {
            Box::new(all.values())
        } else if glob::is_pattern(own) {
            Box::new(all.values().filter(move |entry| glob::matches(own, &entry.own)))
        } else {
            Box::new(all.get(own).into_iter())
        }
    }
}

impl Catalogue {
    /// The upstreams whose id is, or matches, `id`.
    pub fn upstreams<'a>(&'a self, id: &'a str) -> Box<dyn Iterator<Item = &'a UpstreamEntry> + 'a> {
        if glob::is_pattern(id) {
            Box::new(self.upstreams.values().filter(move |upstream| glob::matches(id, &upstream.id)))
        } else {
            Box::new(self.upstreams.get(id).into_iter())
        }
    }

    /// The steps of finding the upstreams whose id is, or matches, `id`.
    pub(super) fn steps(&self, id: &str) -> usize {
        match glob::is_pattern(id) {
            true => self.upstreams.keys().map(|known| glob::steps(id, known.len())).sum(),
            false => 1,
        }
    }

    /// Takes an upstream in, its entries staying.
    pub fn put_upstream(&mut self, upstream: &Upstream) {
        self.known_names = KnownNames::default();
        let id = names::id(&upstream.name).to_owned();
        let known = self.upstreams.entry(id.clone()).or_default();
        known.id = id;
        known.disabled = upstream.disabled;
        known.labels = labels(upstream);
        known.ownership = upstream.ownership();
    }

    /// Takes a tool in.
    pub fn put_tool(&mut self, tool: &Tool) {
        let read_only = tool.hints.as_ref().and_then(|hints| hints.read_only).unwrap_or(false);
        let available = !tool.disabled && tool.stale_time.is_none();
        let arguments = argument_shape::of_tool(&tool.definition_json);
        let results = argument_shape::results_of_tool(&tool.definition_json);
        let position = tool.position;
        self.put(tool, Entry { read_only, arguments, results, available, position, ..Entry::default() });
    }

    /// Takes a resource or resource template in.
    pub fn put_resource(&mut self, resource: &Resource) {
        let template = !resource.uri_template.is_empty();
        let available = !resource.disabled && resource.stale_time.is_none();
        self.put(resource, Entry { template, available, position: resource.position, ..Entry::default() });
    }

    /// Takes a prompt in.
    pub fn put_prompt(&mut self, prompt: &Prompt) {
        let available = !prompt.disabled && prompt.stale_time.is_none();
        let arguments = argument_shape::of_prompt(&prompt.definition_json);
        let position = prompt.position;
        self.put(prompt, Entry { arguments, available, position, ..Entry::default() });
    }

    /// Takes a virtual server in.
    pub fn put_server(&mut self, server: &Server) {
        self.known_names = KnownNames::default();
        self.servers.insert(server.name.clone(), server.clone());
    }

    /// Takes the rules of a team in.
    pub fn put_team(&mut self, team: &Team) {
        match team.rules.is_empty() {
            true => self.team_rules.remove(&team.name),
            false => self.team_rules.insert(team.name.clone(), team.rules.clone()),
        };
    }

    /// The rules of a team, which go for its servers.
    pub fn team_rules(&self, team: &str) -> &[Rule] {
        self.team_rules.get(team).map_or(&[], Vec::as_slice)
    }

    /// Takes in which owners of servers have no part in the team of theirs.
    pub fn put_outsiders(&mut self, outsiders: BTreeSet<(String, String)>) {
        if self.outsiders != outsiders {
            self.known_names = KnownNames::default();
            self.outsiders = outsiders;
        }
    }

    /// As whose a server selects: what its owner has left gives it nothing.
    pub fn selecting_as(&self, server: &Server) -> Ownership {
        let of = server.ownership();
        match self.outsiders.is_empty() || !self.outsiders.contains(&(of.owner.clone(), of.team.clone())) {
            true => of,
            false => of.without_team(),
        }
    }

    /// Tells whether a virtual server of this name exists for somebody; with `*`, whether any does.
    pub fn has_server(&self, name: &str, viewer: &Rights) -> bool {
        let sees = |server: &Server| viewer.sees_all() || viewer.sees(&server.ownership());
        match name {
            "*" => self.servers.values().any(sees),
            name => self.servers.get(name).is_some_and(sees),
        }
    }

    /// The virtual server of this name.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.get(name)
    }

    /// The virtual servers of a team.
    pub fn servers_of<'a>(&'a self, team: &'a str) -> impl Iterator<Item = &'a Server> {
        self.servers.values().filter(move |server| server.ownership().team == team)
    }

    /// The names of all virtual servers.
    pub(super) fn servers(&self) -> impl Iterator<Item = &str> {
        self.servers.keys().map(String::as_str)
    }

    /// What was worked out from all of this so far.
    pub(super) fn known_names(&self) -> &KnownNames {
        &self.known_names
    }

    /// Forgets a server, an upstream with its entries, or an entry. Other names are nothing to it.
    pub fn remove(&mut self, kind: Kind, name: &str) {
        if kind == Kind::Team {
            self.team_rules.remove(name);
        }
        if matches!(kind, Kind::Token | Kind::Team | Kind::Role) {
            return;
        }
        self.known_names = KnownNames::default();
        if kind == Kind::Server {
            self.servers.remove(name);
        }
        let Some(id) = names::upstream_id(name) else { return };
        if kind == Kind::Upstream {
            self.upstreams.remove(id);
        } else if let (Some(slot), Some(upstream)) = (slot(kind), self.upstreams.get_mut(id))
            && let Ok(own) = names::decode_id(names::id(name))
        {
            let gone = upstream.entries[slot].remove(own.as_ref());
            upstream.name_bytes[slot] -= gone.map_or(0, |gone| gone.own.len() + 1);
        }
    }

    fn put<K: KindRules>(&mut self, message: &K, entry: Entry) {
        let (Some(slot), Some(id)) = (slot(K::KIND), names::upstream_id(message.name())) else { return };
        let Ok(own) = names::decode_id(names::id(message.name())) else { return };
        let own = own.into_owned();
        let none = Meta::default();
        let meta = message.meta().unwrap_or(&none);
        let entry = Entry {
            name: message.name().to_owned(),
            own: own.clone(),
            labels: meta.labels.clone(),
            created_us: meta.create_time.as_ref().map_or(0, clock::micros),
            uid: meta.uid.clone(),
            ..entry
        };
        self.known_names = KnownNames::default();
        let upstream = self.upstreams.entry(id.to_owned()).or_default();
        id.clone_into(&mut upstream.id);
        let bytes = own.len() + 1;
        if upstream.entries[slot].insert(own, entry).is_none() {
            upstream.name_bytes[slot] += bytes;
        }
    }
}

fn labels<K: KindRules>(message: &K) -> BTreeMap<String, String> {
    message.meta().map(|meta| meta.labels.clone()).unwrap_or_default()
}

fn slot(kind: Kind) -> Option<usize> {
    Kind::catalogue().position(|known| known == kind)
}
