//! The entries of a server that permissions allow, as positions in its tables.

use std::borrow::Cow;
use std::collections::HashMap;

use mcp::uri::{self, CanonicalUri, UriTemplate};

use super::rules::KnownBefore;
use super::{List, Permissions, Server, glob};

/// The entries of a server that permissions allow. Permissions that allow the same of it have equal ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Visible {
    /// The allowed entries of `server.tools`.
    pub tools: Positions,
    /// The allowed entries of `server.resources`.
    pub resources: Positions,
    /// The allowed entries of `server.resource_templates`.
    pub resource_templates: Positions,
    /// The allowed entries of `server.prompts`.
    pub prompts: Positions,
    /// The entries of `server.resource_templates` of which some URIs may be allowed. A listed one allows all of its URIs.
    pub producing_templates: Positions,
    /// What all of these allow of URIs that a template produced, which no entry names. None where the server has no template.
    uri_rights: Vec<UriRights>,
    /// True if tools are allowed by name, though there may be none of these names now.
    pub has_tool_globs: bool,
    /// True if the server has no resource, and some would be allowed.
    pub awaits_resources: bool,
    /// True if the server has no prompt, and some would be allowed.
    pub awaits_prompts: bool,
    /// The entries of each list of which rules of the server decide with each request. `None`: it has no rules.
    pub conditional: Option<Box<[Positions; 4]>>,
}

/// What permissions allow of URIs that a template produced.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct UriRights {
    /// The templates all of whose URIs are allowed.
    listed: Positions,
    /// The globs for URIs of others.
    globs: Box<[Box<str>]>,
}

/// A set of positions in a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Positions {
    /// One bit for each position.
    bits: Box<[u64]>,
}

/// The globs that were matched against the names of one server, so that scopes with the same glob match it once.
#[derive(Debug)]
pub struct GlobMatches<'a> {
    server: &'a Server,
    matched: HashMap<(List, Box<str>), Positions>,
    /// By glob, the templates that produce URIs which it may match.
    producing: HashMap<Box<str>, Positions>,
    steps: usize,
}

impl Visible {
    /// Finds what all of these permissions allow of the server of `globs`. Whether they allow the server at all is decided
    /// before.
    pub fn new(all_of: &[Cow<'_, Permissions>], globs: &mut GlobMatches<'_>) -> Visible {
        let (first, rest) = match all_of {
            [first, rest @ ..] => (&**first, rest),
            [] => (&Permissions::default(), &[][..]),
        };
        let first = Visible::of_one(first, globs);
        let all = rest.iter().fold(first, |all, more| all.and(Visible::of_one(more, globs)));
        all.normal()
    }

    fn of_one(permissions: &Permissions, globs: &mut GlobMatches<'_>) -> Visible {
        let is_empty = |list| globs.server.table(list).entries.is_empty();
        let has_templates = !is_empty(List::ResourceTemplates);
        let has_resources = has_templates || !is_empty(List::Resources);
        let awaits_prompts = is_empty(List::Prompts) && !permissions.prompts.is_empty();
        let resource_globs: &[Box<str>] = if has_templates { &permissions.resources } else { &[] };
        let resource_templates = globs.matches(List::ResourceTemplates, &permissions.resources);
        let rights = has_templates
            .then(|| UriRights { listed: resource_templates.clone(), globs: resource_globs.into() });
        Visible {
            tools: globs.matches(List::Tools, &permissions.tools),
            resources: globs.matches(List::Resources, &permissions.resources),
            resource_templates,
            prompts: globs.matches(List::Prompts, &permissions.prompts),
            producing_templates: globs.producing_templates(resource_globs),
            uri_rights: rights.into_iter().collect(),
            has_tool_globs: !permissions.tools.is_empty(),
            awaits_resources: !has_resources && !permissions.resources.is_empty(),
            awaits_prompts,
            conditional: None,
        }
    }

    /// Leaves out what the rules of the server refuse whatever a request is like.
    pub(super) fn under(mut self, known: &KnownBefore) -> Visible {
        let KnownBefore { open, conditional, emptied } = known;
        for list in List::ALL {
            self.of_mut(list).keep(&open[list as usize]);
        }
        self.producing_templates.keep(&open[List::ResourceTemplates as usize]);
        self.has_tool_globs &= !emptied[List::Tools as usize];
        self.awaits_resources &= !emptied[List::Resources as usize];
        self.awaits_prompts &= !emptied[List::Prompts as usize];
        let mut conditional = Box::new(conditional.clone());
        List::ALL.into_iter().for_each(|list| conditional[list as usize].keep(self.of(list)));
        self.conditional = Some(conditional);
        self
    }

    /// Returns what is allowed here and there.
    fn and(mut self, mut other: Visible) -> Visible {
        for visible in [&mut self, &mut other] {
            visible.producing_templates.insert_all(&visible.resource_templates);
        }
        self.tools.keep(&other.tools);
        self.resources.keep(&other.resources);
        self.resource_templates.keep(&other.resource_templates);
        self.prompts.keep(&other.prompts);
        self.producing_templates.keep(&other.producing_templates);
        self.uri_rights.extend(other.uri_rights);
        self.has_tool_globs &= other.has_tool_globs;
        self.awaits_resources &= other.awaits_resources;
        self.awaits_prompts &= other.awaits_prompts;
        self
    }

    /// Leaves out what narrows nothing, so that what allows the same is equal.
    fn normal(mut self) -> Visible {
        let rights = &mut self.uri_rights;
        if rights.len() > 1 {
            rights.sort_unstable();
            rights.dedup();
            let last = rights.pop();
            rights.retain(|rights| !rights.allow_all());
            let narrows = |last: &UriRights| !last.allow_all();
            let is_needed = rights.is_empty() || last.as_ref().is_some_and(narrows);
            rights.extend(last.filter(|_| is_needed));
        }
        self
    }

    /// Returns whether a URI that the template at this position produced is allowed, under one of the names that it has.
    pub fn allows_uri(&self, template: usize, names: &[&CanonicalUri]) -> bool {
        let allowed = |rights: &UriRights| {
            rights.listed.contains(template)
                || names.iter().any(|uri| glob::any_matches_uri(&rights.globs, uri))
        };
        !self.uri_rights.is_empty() && self.uri_rights.iter().all(allowed)
    }

    /// Returns how many bytes it compares at least to tell whether a URI is allowed: one glob after the other.
    pub fn glob_steps(&self, uri: &str) -> usize {
        let globs: usize = self.uri_rights.iter().map(|rights| rights.globs.len()).sum();
        globs * (uri.len() + 1)
    }

    fn of_mut(&mut self, list: List) -> &mut Positions {
        match list {
            List::Tools => &mut self.tools,
            List::Resources => &mut self.resources,
            List::ResourceTemplates => &mut self.resource_templates,
            List::Prompts => &mut self.prompts,
        }
    }

    /// Returns the allowed entries of `list`.
    pub fn of(&self, list: List) -> &Positions {
        match list {
            List::Tools => &self.tools,
            List::Resources => &self.resources,
            List::ResourceTemplates => &self.resource_templates,
            List::Prompts => &self.prompts,
        }
    }
}

impl UriRights {
    fn allow_all(&self) -> bool {
        self.globs.iter().any(|glob| **glob == *"*")
    }
}

impl Positions {
    pub(super) fn none(length: usize) -> Positions {
        Positions { bits: vec![0; length.div_ceil(64)].into() }
    }

    fn all(length: usize) -> Positions {
        let mut all = Positions::none(length);
        (0..length).for_each(|position| all.insert(position));
        all
    }

    pub(super) fn insert(&mut self, position: usize) {
        if let Some(word) = self.bits.get_mut(position / 64) {
            *word |= 1 << (position % 64);
        }
    }

    /// Keeps those that are in `others` as well.
    fn keep(&mut self, others: &Positions) {
        self.bits.iter_mut().zip(&others.bits).for_each(|(word, other)| *word &= other);
    }

    fn insert_all(&mut self, others: &Positions) {
        self.bits.iter_mut().zip(&others.bits).for_each(|(word, other)| *word |= other);
    }

    /// Returns whether the entry at `position` is in the set.
    pub fn contains(&self, position: usize) -> bool {
        self.bits.get(position / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }

    /// Iterates over the positions, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        let words = self.bits.iter().enumerate();
        words.flat_map(|(word, bits)| {
            let after = |rest: &u64| Some(rest & (rest - 1)).filter(|rest| *rest != 0);
            let rest = std::iter::successors(Some(*bits).filter(|bits| *bits != 0), after);
            rest.map(move |rest| word * 64 + rest.trailing_zeros() as usize)
        })
    }

    /// Counts the positions.
    pub fn count(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }
}

impl<'a> GlobMatches<'a> {
    /// Creates an empty set of matches for `server`.
    pub fn new(server: &'a Server) -> GlobMatches<'a> {
        GlobMatches { server, matched: HashMap::new(), producing: HashMap::new(), steps: 0 }
    }

    /// Counts the steps that matching took: bytes looked at, at most.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Returns how many steps more it takes to find what all of these allow, at most.
    pub fn steps_to_find(&self, all_of: &[Cow<'_, Permissions>]) -> usize {
        let of_list = |list: List, globs: &[Box<str>]| {
            let is_new = |glob: &str| glob.contains('*') && !self.is_matched(list, glob);
            let (table, globs) = (self.server.table(list), globs.iter().map(AsRef::as_ref));
            globs.filter(|glob| is_new(glob)).map(|glob| table.glob_steps(glob)).sum::<usize>()
        };
        let of_one = |allowed: &Cow<'_, Permissions>| {
            // Templates are matched by their names, and by what they produce.
            let templates = 2 * of_list(List::ResourceTemplates, &allowed.resources);
            let resources = of_list(List::Resources, &allowed.resources);
            of_list(List::Tools, &allowed.tools)
                + resources
                + templates
                + of_list(List::Prompts, &allowed.prompts)
        };
        all_of.iter().map(of_one).sum()
    }

    fn is_matched(&self, list: List, glob: &str) -> bool {
        !self.matched.is_empty() && self.matched.contains_key(&(list, glob.into()))
    }

    /// Returns the entries of `list` whose exposed name, or former URI, one of `globs` matches.
    fn matches(&mut self, list: List, globs: &[Box<str>]) -> Positions {
        let table = self.server.table(list);
        let mut positions = Positions::none(table.entries.len());
        for pattern in globs {
            let is_uri = matches!(list, List::Resources | List::ResourceTemplates);
            if !pattern.contains('*') {
                let found = if is_uri { table.find_uri(pattern) } else { table.find(pattern) };
                found.into_iter().for_each(|(position, _)| positions.insert(position));
            } else if &**pattern == "*" {
                return Positions::all(table.entries.len());
            } else {
                positions.insert_all(self.scan(list, pattern));
            }
        }
        positions
    }

    fn scan(&mut self, list: List, pattern: &str) -> &Positions {
        let table = self.server.table(list);
        let (entries, steps) = (&table.entries, &mut self.steps);
        self.matched.entry((list, pattern.into())).or_insert_with(|| {
            *steps += table.glob_steps(pattern);
            let mut positions = Positions::none(entries.len());
            let names = entries.iter().enumerate();
            // A listed URI that servers resolve is not below a prefix, though it begins so.
            let is_uri = matches!(list, List::Resources | List::ResourceTemplates);
            let leads_out = |name: &str| is_uri && uri::resolves_elsewhere(name);
            let named = |name: &str| glob::matches(pattern, name) && !leads_out(name);
            let matching = names.filter(|(_, entry)| {
                named(&entry.exposed) || entry.former().is_some_and(|former| named(&former))
            });
            matching.for_each(|(position, _)| positions.insert(position));
            positions
        })
    }

    /// Returns the templates that produce URIs which one of `globs` may match.
    fn producing_templates(&mut self, globs: &[Box<str>]) -> Positions {
        let table = &self.server.resource_templates;
        let entries = &table.entries;
        let mut positions = Positions::none(entries.len());
        for pattern in globs {
            if &**pattern == "*" {
                return Positions::all(entries.len());
            }
            let steps = &mut self.steps;
            positions.insert_all(self.producing.entry(pattern.clone()).or_insert_with(|| {
                *steps += table.glob_steps(pattern);
                let mut positions = Positions::none(entries.len());
                let named = |template: &UriTemplate<'_>| glob::may_match(pattern, template);
                let matching = entries.iter().enumerate().filter(|(_, entry)| {
                    entry.template.as_ref().is_some_and(|template| named(template))
                        || entry.former().is_some_and(|former| named(&UriTemplate::new(&former)))
                });
                matching.for_each(|(position, _)| positions.insert(position));
                positions
            }));
        }
        positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_a_set() {
        let mut positions = Positions::none(130);
        [0, 64, 129, 64, 500].into_iter().for_each(|position| positions.insert(position));
        assert_eq!(positions.count(), 3);
        assert_eq!(positions.iter().collect::<Vec<_>>(), [0, 64, 129]);
        assert!(positions.contains(129) && !positions.contains(128) && !positions.contains(500));
        let all = Positions::all(130);
        assert_eq!(all.count(), 130);
        let few = positions.clone();
        positions.insert_all(&all);
        assert_eq!(positions, all);
        positions.keep(&few);
        assert_eq!(positions, few);
    }
}
