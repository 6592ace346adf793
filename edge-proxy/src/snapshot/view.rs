//! The part of a server that scopes with equal results see: decided once, for listing and for calling.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use access::rule::Caller;
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
    upstreams: Arc<[Arc<Upstream>]>,
    /// The upstreams that something listed leads to, for each list in the order of `List::ALL`.
    listed: [Arc<[Arc<Upstream>]>; 4],
    /// The upstreams of resources that can be read, listed or produced by a template.
    readable: Arc<[Arc<Upstream>]>,
    /// Who sees it, where rules of the server look at that.
    caller: Option<Arc<Caller>>,
    /// The list bodies, rendered when first requested. Views of callers that see the same share them.
    lists: Arc<Lists>,
}

impl View {
    /// Creates the view of `server` that shows what is `visible`.
    pub fn new(server: &Arc<Server>, visible: Visible, limits: PageLimits, budget: &Budget) -> View {
        let listed = List::ALL.map(|list| reached(entries(server, list, &visible)));
        let [_, resources, templates, _] = &listed;
        let producing = reached(producing(server, &visible));
        let mut all: Vec<&Reached> = listed.iter().collect();
        all.push(&producing);
        View {
            server: Arc::clone(server),
            upstreams: upstreams(server, &all),
            readable: upstreams(server, &[resources, templates, &producing]),
            listed: listed.each_ref().map(|reached| upstreams(server, &[reached])),
            visible,
            caller: None,
            lists: Arc::new(Lists::new(limits, budget.clone())),
        }
    }

    /// Returns the view of one caller, who sees the same.
    pub(super) fn of_caller(&self, caller: Caller) -> View {
        View {
            server: Arc::clone(&self.server),
            visible: self.visible.clone(),
            upstreams: self.upstreams.clone(),
            listed: self.listed.clone(),
            readable: self.readable.clone(),
            caller: Some(Arc::new(caller)),
            lists: Arc::clone(&self.lists),
        }
    }

    /// Returns whether rules decide about the entry of `list` at this position with each request.
    pub fn is_conditional(&self, list: List, position: usize) -> bool {
        self.visible.conditional.as_ref().is_some_and(|lists| lists[list as usize].contains(position))
    }

    /// Who sees it, as rules of the server know them. A view of a server whose rules do not look at that is nobody's.
    pub fn caller(&self) -> &Caller {
        static NOBODY: LazyLock<Caller> = LazyLock::new(Caller::default);
        self.caller.as_deref().unwrap_or(&NOBODY)
    }

    /// The upstreams that something allowed leads to, each once.
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// The upstreams that something in `list` leads to, each once.
    pub fn listed_upstreams(&self, list: List) -> &[Arc<Upstream>] {
        &self.listed[list as usize]
    }

    /// The upstreams of resources that can be read, each once: listed ones, and those that a template produces.
    pub fn readable_upstreams(&self) -> &[Arc<Upstream>] {
        &self.readable
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

/// Iterates over the templates of which some URIs may be read, listed or not.
fn producing<'a>(server: &'a Server, visible: &Visible) -> impl Iterator<Item = &'a Entry> {
    let templates = &server.resource_templates.entries;
    visible.producing_templates.iter().filter_map(|position| templates.get(position)).map(AsRef::as_ref)
}

/// The addresses of upstreams.
type Reached = HashSet<*const Upstream>;

/// Finds the upstreams that `entries` lead to.
fn reached<'a>(entries: impl Iterator<Item = &'a Entry>) -> Reached {
    let (mut reached, mut last) = (Reached::new(), std::ptr::null());
    for upstream in entries.map(|entry| Arc::as_ptr(&entry.upstream)) {
        // Entries of one upstream mostly follow each other.
        if upstream != last {
            reached.insert(upstream);
            last = upstream;
        }
    }
    reached
}

/// Returns the upstreams of `server` that are in one of the sets.
fn upstreams(server: &Server, reached: &[&Reached]) -> Arc<[Arc<Upstream>]> {
    let known = |upstream: &&Arc<Upstream>| reached.iter().any(|set| set.contains(&Arc::as_ptr(upstream)));
    server.upstreams.iter().filter(known).cloned().collect()
}
