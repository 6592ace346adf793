//! The views of every server. Those in use are computed after what was taken away is in force, and before the snapshot is published.

use std::collections::HashSet;
use std::sync::Arc;

use mcp::revision::Era;

use super::super::{Budget, GlobMatches, List, PageLimits, Scope, Server, ServerViews, Servers, View};

/// Steps in which views are computed before a snapshot is published, about 0.2 s. Views past it are computed
/// by the first request that needs them, those that were used least recently first.
const MAX_STEPS: usize = 200_000_000;
/// The work of computing a view apart from its globs, in steps.
const VIEW_COST: usize = 1_280;
/// Bytes of lists that are rendered after a snapshot is published, about 0.05 s. Lists past it are rendered when they
/// are next requested.
const MAX_RENDERED: usize = 64 << 20;
/// Dropped scopes whose views are kept, beside as many as there are scopes.
const MAX_DROPPED: usize = 64;

/// The servers of the last snapshot, with their views.
#[derive(Debug)]
pub(super) struct ViewCache {
    servers: Servers,
    /// Scopes that were dropped and of which servers may still keep views.
    dropped: usize,
    limits: PageLimits,
    budget: Budget,
}

/// The views of changed servers that are in use, to be computed before the snapshot is published.
#[derive(Debug, Default)]
pub struct ViewsInUse {
    changed: Vec<ChangedServer>,
    scopes: Vec<Arc<Scope>>,
}

/// The lists that were rendered for views of changed servers, to be rendered anew. Each is in it once.
#[derive(Debug, Default)]
pub struct ListsInUse {
    lists: Vec<(Arc<View>, List, Era)>,
    /// The same, by the address of the view.
    seen: HashSet<(usize, List, Era)>,
}

/// A server that changed: its earlier views, and the new ones.
type ChangedServer = (Arc<ServerViews>, Arc<ServerViews>);

impl ViewCache {
    pub(super) fn new(limits: PageLimits, budget: Budget) -> ViewCache {
        ViewCache { servers: Servers::default(), dropped: 0, limits, budget }
    }

    pub(super) fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Moves to `servers`. Returns the views in use of those that changed.
    pub(super) fn move_to<'a>(
        &mut self,
        servers: impl Iterator<Item = &'a Arc<Server>>,
        scopes: Vec<Arc<Scope>>,
    ) -> ViewsInUse {
        let mut changed = Vec::new();
        let mut next = Vec::new();
        for server in servers {
            let earlier = self.servers.views(&server.id);
            let views = match earlier {
                Some(earlier) if Arc::ptr_eq(earlier.server(), server) => Arc::clone(earlier),
                _ => Arc::new(self.empty(server, &scopes)),
            };
            if let Some(earlier) = earlier.filter(|earlier| !Arc::ptr_eq(earlier, &views)) {
                changed.push((Arc::clone(earlier), Arc::clone(&views)));
            }
            next.push(views);
        }
        self.servers = Servers::new(next);
        ViewsInUse { changed, scopes }
    }

    /// Drops the views of scopes that are no more once there are many, and makes room for many new scopes.
    pub(super) fn maintain(&mut self, scopes: &[Arc<Scope>], dropped: usize) {
        self.dropped += dropped;
        let sweep = self.dropped > scopes.len() + MAX_DROPPED;
        if !sweep && self.servers.all_views().all(|views| views.has_room_for(scopes.len())) {
            return;
        }
        self.dropped = 0;
        let copy = |earlier: &Arc<ServerViews>| {
            let views = self.empty(earlier.server(), scopes);
            scopes.iter().for_each(|scope| views.take_over(earlier, scope));
            Arc::new(views)
        };
        self.servers = Servers::new(self.servers.all_views().map(copy).collect::<Vec<_>>());
    }

    fn empty(&self, server: &Arc<Server>, scopes: &[Arc<Scope>]) -> ServerViews {
        ServerViews::new(Arc::clone(server), scopes.len(), self.limits, self.budget.clone())
    }
}

impl ViewsInUse {
    /// Computes them, first those that were used since the last change, in a bounded number of steps. What takes more than is
    /// left of them is left out, and what takes less is not.
    pub fn compute(&self) -> ListsInUse {
        let mut lists = ListsInUse::default();
        let mut left = MAX_STEPS;
        for recently in [true, false] {
            for (earlier, views) in &self.changed {
                let mut globs = GlobMatches::new(views.server());
                for scope in &self.scopes {
                    let Some(before) = earlier.computed(scope) else { continue };
                    if earlier.is_used(scope) != recently {
                        continue;
                    }
                    if views.steps_to_compute(scope, &globs).is_some_and(|steps| steps > left) {
                        left = left.saturating_sub(VIEW_COST);
                        continue;
                    }
                    let steps = globs.steps();
                    if let Some(view) = views.compute(scope, &mut globs, false) {
                        lists.replace(before, view);
                    }
                    left = left.saturating_sub(globs.steps() - steps + VIEW_COST);
                    if left == 0 {
                        return lists;
                    }
                }
            }
        }
        lists
    }
}

impl ListsInUse {
    /// Adds the lists of `view` that are rendered of `before`.
    fn replace(&mut self, before: &View, view: &Arc<View>) {
        for (list, era) in before.rendered() {
            if self.seen.insert((Arc::as_ptr(view).addr(), list, era)) {
                self.lists.push((Arc::clone(view), list, era));
            }
        }
    }

    /// Renders them, up to a bound.
    pub fn render(&self) {
        let mut left = MAX_RENDERED;
        for (view, list, era) in &self.lists {
            left = left.saturating_sub(view.pages(*list, *era).bytes());
            if left == 0 {
                return;
            }
        }
    }
}
