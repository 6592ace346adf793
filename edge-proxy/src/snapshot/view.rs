//! The part of a server that scopes with equal results see: decided once, for listing and for calling.

use std::collections::HashSet;
use std::sync::Arc;

use mcp::revision::Era;

use super::{Budget, Entry, List, Lists, PageLimits, Pages, Positions, Server, Table, Upstream, Visible};

/// The part of a server that scopes with equal results see.
#[derive(Debug)]
pub struct View {
    /// The server.
    pub server: Arc<Server>,
    /// The allowed entries.
    pub visible: Visible,
    /// The upstreams that something allowed leads to.
    upstreams: Box<[Arc<Upstream>]>,
    /// The list bodies, rendered when first requested.
    lists: Lists,
}

impl View {
    /// Creates the view of `server` that shows what is `visible`.
    pub fn new(server: &Arc<Server>, visible: Visible, limits: PageLimits, budget: &Budget) -> View {
        View {
            server: Arc::clone(server),
            upstreams: reached(server, &visible),
            visible,
            lists: Lists::new(limits, budget.clone()),
        }
    }

    /// The upstreams that something allowed leads to, each once.
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// Returns the table of `list`, and the allowed entries of it.
    pub fn table(&self, list: List) -> (&Table, &Positions) {
        (self.server.table(list), self.visible.of(list))
    }

    /// Returns the bodies of `list` for clients of `era`, rendered on first use.
    pub fn pages(&self, list: List, era: Era) -> Arc<Pages> {
        self.lists.get(list, era, || {
            let entries = entries(&self.server, list, &self.visible);
            entries.filter(|entry| entry.is_offered_in(era)).map(|entry| entry.definition(era)).collect()
        })
    }

    /// Iterates over the lists that are rendered.
    pub fn rendered(&self) -> impl Iterator<Item = (List, Era)> {
        self.lists.rendered()
    }
}

fn entries<'a>(server: &'a Server, list: List, visible: &Visible) -> impl Iterator<Item = &'a Entry> {
    let table = server.table(list);
    visible.of(list).iter().filter_map(|position| table.entries.get(position)).map(AsRef::as_ref)
}

/// Finds the upstreams that something visible leads to. A scope that can read URIs that a template produces reaches
/// the upstream of that template.
fn reached(server: &Server, visible: &Visible) -> Box<[Arc<Upstream>]> {
    let by_name = List::ALL.into_iter().flat_map(|list| entries(server, list, visible));
    let by_uri = if visible.resource_globs.is_empty() { &[] } else { &*server.resource_templates.entries };
    let mut reached: HashSet<*const Upstream> = HashSet::new();
    for entry in by_name.chain(by_uri.iter().map(AsRef::as_ref)) {
        reached.insert(Arc::as_ptr(&entry.upstream));
        if reached.len() == server.upstreams.len() {
            break;
        }
    }
    let known = |upstream: &&Arc<Upstream>| reached.contains(&Arc::as_ptr(upstream));
    server.upstreams.iter().filter(known).cloned().collect()
}
