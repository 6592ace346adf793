//! The exposure of a virtual server: its members, evaluated over a catalogue. Pure, and the same function for
//! checking a write, for showing the entries, and for the projection to edges.

use std::collections::{HashMap, HashSet};
use std::fmt;

use trunkline::registry::v1::{Member, Server};

use super::catalogue::{Entry, UpstreamEntry};
use super::{Catalogue, Kind, exposed, glob, names};

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
    /// The member that selected it.
    pub member: &'a Member,
    /// The index of that member among those of its kind.
    index: usize,
    /// The name that clients see.
    pub exposed_name: String,
    /// For resources: what stands before the upstream's own URI in the exposed one.
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

/// Two entries that would have the same exposed name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Conflict {
    /// That name.
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
        write!(f, "{}: {} is exposed, {} is not", self.exposed_name, self.kept, self.left_out)
    }
}

/// The entries that a server exposes, and those it cannot.
#[derive(Debug, Default)]
pub struct Exposure<'a> {
    /// Sorted by word, then in the order in which clients see them: as the members were written, and within one as the
    /// upstreams list them. Word and exposed name together are unique.
    pub entries: Vec<Exposed<'a>>,
    /// Matches without `*` that select nothing.
    pub unresolved: Vec<String>,
    /// Entries left out because of their names.
    pub conflicts: Vec<Conflict>,
}

impl<'a> Exposure<'a> {
    /// The entries of a kind, templates among the resources.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Exposed<'a>> {
        self.entries.iter().filter(move |exposed| exposed.kind == kind)
    }
}

/// The three lists of a server's members.
pub fn lists(server: &Server) -> [(Kind, &[Member]); 3] {
    [(Kind::Tool, &server.tools), (Kind::Resource, &server.resources), (Kind::Prompt, &server.prompts)]
}

/// Evaluates a server. The first member that selects an entry governs it; stale and disabled entries, and
/// those of disabled upstreams, are out; of two entries with one name the older one stays.
pub fn evaluate<'a>(server: &'a Server, catalogue: &'a Catalogue) -> Exposure<'a> {
    let mut exposure = Exposure::default();
    for (kind, members) in lists(server) {
        let mut chosen = select(kind, members, catalogue, &mut exposure.unresolved);
        chosen.sort_by(|a, b| a.entry.age().cmp(&b.entry.age()));
        let mut taken: HashMap<(bool, String), &str> = HashMap::with_capacity(chosen.len());
        for choice in chosen {
            let (exposed_name, uri_prefix) = appearance(server, kind, &choice);
            let slot = (choice.entry.template, exposed_name.clone());
            if let Some(kept) = taken.get(&slot) {
                exposure.conflicts.push(Conflict {
                    exposed_name,
                    kept: (*kept).to_owned(),
                    left_out: choice.entry.name.clone(),
                    field: format!("{}[{}]", kind.collection(), choice.index),
                });
                continue;
            }
            taken.insert(slot, &choice.entry.name);
            exposure.entries.push(Exposed {
                kind,
                entry: choice.entry,
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
    exposure
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
    catalogue: &'a Catalogue,
    unresolved: &mut Vec<String>,
) -> Vec<Choice<'a>> {
    let mut chosen = Vec::new();
    let mut governed: HashSet<&str> = HashSet::new();
    for (index, member) in members.iter().enumerate() {
        let Some(target) = Target::parse(&member.r#match) else { continue };
        let mut found = false;
        for upstream in catalogue.upstreams(target.upstream).filter(|upstream| !upstream.disabled) {
            for entry in upstream.entries(kind, target.own) {
                if !selects(member, upstream, entry) {
                    continue;
                }
                found = true;
                if governed.insert(&entry.name) {
                    chosen.push(Choice { upstream, entry, member, index });
                }
            }
        }
        if !found && !glob::is_pattern(&member.r#match) {
            unresolved.push(member.r#match.clone());
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
        (format!("{prefix}{own}"), prefix)
    } else {
        (exposed::name(style, upstream, own), String::new())
    }
}

#[cfg(test)]
mod tests {
    use trunkline::registry::v1::{Tool, Upstream};

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
    }
}
