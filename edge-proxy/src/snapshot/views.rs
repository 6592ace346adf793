//! The views of one server, by the scope that sees them. Scopes that see the same share one view and its pages.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;

use super::{Budget, GlobMatches, PageLimits, Scope, Server, View, Visible};
use crate::collections::OnceMap;

/// A server, and what each scope sees of it. Shared between snapshots until the server changes.
///
/// Views of scopes in use are computed before a snapshot is published. Any other is computed by the first request that
/// needs it, and nobody waits for it: two workers may compute the same, and the first result is kept. One that takes long is
/// computed elsewhere, so that who asks for it waits alone.
#[derive(Debug)]
pub struct ServerViews {
    server: Arc<Server>,
    by_scope: OnceMap<ScopeView>,
    /// By a hash of what is visible.
    by_content: OnceMap<Arc<View>>,
    limits: PageLimits,
    budget: Budget,
}

#[derive(Debug)]
struct ScopeView {
    view: Arc<View>,
    /// True if a request has used it since it was computed.
    used: AtomicBool,
}

/// Why there is no view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoView {
    /// The scope does not allow the server.
    OutOfScope,
    /// It takes too long to be computed by a worker: `ServerViews::prepare` computes it.
    Pending,
}

/// Scopes for each view that they share, for the width of the map of views.
const SCOPES_A_VIEW: usize = 8;
/// The steps in which a worker computes a view itself, some 0.01 s: others wait for it.
const MAX_AT_ONCE: usize = 10_000_000;
/// What takes longer is computed one after the other, however many ask.
static TURN: Semaphore = Semaphore::const_new(1);

impl ServerViews {
    /// Creates the views of `server`, none computed, for about so many scopes.
    pub fn new(server: Arc<Server>, scopes: usize, limits: PageLimits, budget: Budget) -> ServerViews {
        ServerViews {
            server,
            by_scope: OnceMap::for_about(scopes),
            by_content: OnceMap::for_about(scopes / SCOPES_A_VIEW),
            limits,
            budget,
        }
    }

    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Returns what `scope` sees of the server.
    pub fn view(&self, scope: &Scope) -> Result<&Arc<View>, NoView> {
        let Some(seen) = self.by_scope.get(scope.id()) else { return self.first_use(scope) };
        // Read first: a store by every call would move the line between the cores.
        if !seen.used.load(Ordering::Relaxed) {
            seen.used.store(true, Ordering::Relaxed);
        }
        Ok(&seen.view)
    }

    #[cold]
    fn first_use(&self, scope: &Scope) -> Result<&Arc<View>, NoView> {
        let mut globs = GlobMatches::new(&self.server);
        match self.steps_to_compute(scope, &globs) {
            Some(steps) if steps > MAX_AT_ONCE => Err(NoView::Pending),
            _ => self.compute(scope, &mut globs, true).ok_or(NoView::OutOfScope),
        }
    }

    /// Computes the view of `scope` on a thread of its own kind, after those that others wait for.
    pub async fn prepare(self: &Arc<Self>, scope: &Arc<Scope>) {
        // It is never closed.
        let Ok(turn) = TURN.acquire().await else { return };
        if self.computed(scope).is_some() {
            return;
        }
        let (views, scope) = (Arc::clone(self), Arc::clone(scope));
        let computing = tokio::task::spawn_blocking(move || {
            // Held to the end, also where nobody waits any more.
            let _turn = turn;
            views.compute(&scope, &mut GlobMatches::new(&views.server), true);
        });
        // What failed is not there when it is looked for.
        let _done = computing.await;
    }

    /// Returns how many steps it takes to compute the view of `scope`, at most; `None` if it does not allow the server.
    pub(super) fn steps_to_compute(&self, scope: &Scope, globs: &GlobMatches<'_>) -> Option<usize> {
        Some(globs.steps_to_find(&scope.at(&self.server)?))
    }

    /// Returns the view of `scope` if it is computed.
    pub(super) fn computed(&self, scope: &Scope) -> Option<&Arc<View>> {
        self.by_scope.get(scope.id()).map(|seen| &seen.view)
    }

    /// Returns whether a request has used the view of `scope` since it was computed.
    pub(super) fn is_used(&self, scope: &Scope) -> bool {
        self.by_scope.get(scope.id()).is_some_and(|seen| seen.used.load(Ordering::Relaxed))
    }

    /// Computes the view of `scope`; `None` if it does not allow the server.
    pub(super) fn compute(
        &self,
        scope: &Scope,
        globs: &mut GlobMatches<'_>,
        used: bool,
    ) -> Option<&Arc<View>> {
        let visible = Visible::new(&scope.at(&self.server)?, globs);
        let view = self.shared(visible);
        Some(self.keep(scope, &view, used))
    }

    /// Takes over the view that `earlier` has computed for `scope`, of the same server.
    pub(super) fn take_over(&self, earlier: &ServerViews, scope: &Scope) {
        if let Some(view) = earlier.computed(scope) {
            self.by_content.get_or_set(hash(&view.visible), || Arc::clone(view));
            self.keep(scope, view, earlier.is_used(scope));
        }
    }

    /// Returns whether views of so many scopes are found fast.
    pub(super) fn has_room_for(&self, scopes: usize) -> bool {
        self.by_scope.has_room_for(scopes)
    }

    /// Returns the one view that shows what is `visible`.
    fn shared(&self, visible: Visible) -> Arc<View> {
        let key = hash(&visible);
        if let Some(view) = self.by_content.get(key).filter(|view| view.visible == visible) {
            return Arc::clone(view);
        }
        let view = Arc::new(View::new(&self.server, visible, self.limits, &self.budget));
        let first = self.by_content.get_or_set(key, || Arc::clone(&view));
        // Another worker may have been first. Where hashes collide, the second is not shared.
        if first.visible == view.visible { Arc::clone(first) } else { view }
    }

    fn keep(&self, scope: &Scope, view: &Arc<View>, used: bool) -> &Arc<View> {
        let seen = || ScopeView { view: Arc::clone(view), used: AtomicBool::new(used) };
        &self.by_scope.get_or_set(scope.id(), seen).view
    }
}

fn hash(visible: &Visible) -> u64 {
    let mut hasher = DefaultHasher::new();
    visible.hash(&mut hasher);
    hasher.finish()
}
