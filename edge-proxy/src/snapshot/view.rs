//! The part of a server that one scope sees: decided once, for listing and for calling.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use mcp::revision::Era;

use super::{Budget, List, Lists, PageLimits, Pages, Permissions, Server, Table, Upstream, glob};

/// The part of a server that one scope sees.
#[derive(Debug)]
pub struct View {
    /// The server.
    pub server: Arc<Server>,
    /// The allowed entries of `server.tools`.
    pub tools: Allowed,
    /// The allowed entries of `server.resources`.
    pub resources: Allowed,
    /// The allowed entries of `server.resource_templates`.
    pub resource_templates: Allowed,
    /// The allowed entries of `server.prompts`.
    pub prompts: Allowed,
    /// The globs for URIs that a template produced, which no entry names.
    pub resource_globs: Vec<Box<str>>,
    /// The upstreams that something allowed leads to, found when first requested.
    upstreams: OnceLock<Vec<Arc<Upstream>>>,
    /// The list bodies, rendered when first requested.
    lists: Lists,
}

/// A set of positions in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// One bit for each position.
    pub bits: Box<[u64]>,
}

impl View {
    /// Computes what `permissions` show of `server`. Whether they allow the server at all is decided before.
    pub fn new(server: &Arc<Server>, permissions: &Permissions, limits: PageLimits, budget: &Budget) -> View {
        View {
            server: Arc::clone(server),
            tools: Allowed::by(&permissions.tools, &server.tools),
            resources: Allowed::by(&permissions.resources, &server.resources),
            resource_templates: Allowed::by(&permissions.resources, &server.resource_templates),
            prompts: Allowed::by(&permissions.prompts, &server.prompts),
            resource_globs: permissions.resources.clone(),
            upstreams: OnceLock::new(),
            lists: Lists::new(limits, budget.clone()),
        }
    }

    /// Returns the upstreams that something allowed leads to, each once.
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        self.upstreams.get_or_init(|| self.reached())
    }

    /// Finds the upstreams that something allowed leads to. A scope that can read URIs that a template produces reaches
    /// the upstream of that template.
    fn reached(&self) -> Vec<Arc<Upstream>> {
        let lists = [List::Tools, List::Resources, List::ResourceTemplates, List::Prompts];
        let mut reached: HashSet<*const Upstream> = HashSet::new();
        for list in lists {
            let (table, allowed) = self.table(list);
            let by_uri = matches!(list, List::ResourceTemplates) && !self.resource_globs.is_empty();
            let entries = table.entries.iter().enumerate();
            let entries = entries.filter(|(at, _)| by_uri || allowed.contains(*at));
            reached.extend(entries.map(|(_, entry)| Arc::as_ptr(&entry.upstream)));
        }
        let known = |upstream: &&Arc<Upstream>| reached.contains(&Arc::as_ptr(upstream));
        self.server.upstreams.iter().filter(known).cloned().collect()
    }

    /// Returns the table of `list`, and the allowed entries of it.
    pub fn table(&self, list: List) -> (&Table, &Allowed) {
        match list {
            List::Tools => (&self.server.tools, &self.tools),
            List::Resources => (&self.server.resources, &self.resources),
            List::ResourceTemplates => (&self.server.resource_templates, &self.resource_templates),
            List::Prompts => (&self.server.prompts, &self.prompts),
        }
    }

    /// Returns the bodies of `list` for clients of `era`, rendered on first use.
    pub fn pages(&self, list: List, era: Era) -> Arc<Pages> {
        let (table, allowed) = self.table(list);
        self.lists.get(list, era, || {
            let entries = table.entries.iter().enumerate();
            entries
                .filter(|(at, entry)| allowed.contains(*at) && entry.is_offered_in(era))
                .map(|(_, entry)| entry.definition(era))
                .collect()
        })
    }
}

impl Allowed {
    /// Selects the entries of `table` whose exposed name one of `globs` matches.
    pub fn by(globs: &[Box<str>], table: &Table) -> Allowed {
        let mut bits = vec![0u64; table.entries.len().div_ceil(64)].into_boxed_slice();
        for (at, entry) in table.entries.iter().enumerate() {
            if glob::any(globs, &entry.exposed) {
                bits[at / 64] |= 1 << (at % 64);
            }
        }
        Allowed { bits }
    }

    /// Returns whether the entry at `position` is allowed.
    pub fn contains(&self, position: usize) -> bool {
        self.bits.get(position / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }

    /// Counts the allowed entries.
    pub fn count(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }
}
