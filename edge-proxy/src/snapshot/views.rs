//! The views of one server, by the scope that sees them. Scopes that see the same share one view and its pages.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use access::rule::Caller;
use tokio::sync::Semaphore;

use super::{Budget, GlobMatches, List, PageLimits, Scope, Server, View, Visible};
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
    /// By a hash of the scope and the caller, where rules of the server look at who calls.
    by_caller: OnceMap<CallerView>,
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

#[derive(Debug)]
struct CallerView {
    scope: u64,
    view: Arc<View>,
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
            by_caller: OnceMap::for_about(scopes),
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

    /// Returns whether what a scope sees depends on who has it.
    pub fn depend_on_caller(&self) -> bool {
        self.server.rules.as_ref().is_some_and(|rules| rules.need_caller())
    }

    /// Returns what `caller` with `scope` sees of the server. To be asked where that depends on who calls.
    pub fn view_of(&self, scope: &Scope, caller: Caller) -> Result<&Arc<View>, NoView> {
        if let Some(view) = self.computed_of(scope, &caller) {
            return Ok(view);
        }
        if self.rule_steps() > MAX_AT_ONCE {
            return Err(NoView::Pending);
        }
        Ok(self.compute_of(self.view(scope)?, scope, &caller))
    }

    fn computed_of(&self, scope: &Scope, caller: &Caller) -> Option<&Arc<View>> {
        let mut key = hash(&(scope.id(), caller));
        while let Some(known) = self.by_caller.get(key) {
            if known.is_of(scope, caller) {
                return Some(&known.view);
            }
            // Others whose hash is the same.
            key = key.wrapping_add(1);
        }
        None
    }

    /// Computes what `caller` sees of what everybody with the same scope would see but for the rules.
    #[cold]
    fn compute_of(&self, within: &View, scope: &Scope, caller: &Caller) -> &Arc<View> {
        let known = self.server.rules.as_ref().map(|rules| rules.known_before(&self.server, caller));
        let visible = known.iter().fold(within.visible.clone(), |visible, known| visible.under(known));
        let view = Arc::new(self.shared(visible).of_caller(caller.clone()));
        let mut key = hash(&(scope.id(), caller));
        loop {
            let seen = || CallerView { scope: scope.id(), view: Arc::clone(&view) };
            let known = self.by_caller.get_or_set(key, seen);
            if known.is_of(scope, caller) {
                return &known.view;
            }
            key = key.wrapping_add(1);
        }
    }

    /// How many steps it takes to find what the rules come to, at most.
    fn rule_steps(&self) -> usize {
        let of_list = |list| self.server.table(list).glob_steps("*");
        let names: usize = List::ALL.into_iter().map(of_list).sum();
        self.server.rules.as_ref().map_or(0, |rules| rules.steps(names))
    }

    #[cold]
    fn first_use(&self, scope: &Scope) -> Result<&Arc<View>, NoView> {
        let mut globs = GlobMatches::new(&self.server);
        match self.steps_to_compute(scope, &globs) {
            Some(steps) if steps > MAX_AT_ONCE => Err(NoView::Pending),
            _ => self.compute(scope, &mut globs, true).ok_or(NoView::OutOfScope),
        }
    }

    /// Computes the view of `scope` on a thread of its own kind, after those that others wait for. `caller`: who has it, where that
    /// matters.
    pub async fn prepare(self: &Arc<Self>, scope: &Arc<Scope>, caller: Option<Caller>) {
        // It is never closed.
        let Ok(turn) = TURN.acquire().await else { return };
        let (views, scope) = (Arc::clone(self), Arc::clone(scope));
        let computing = tokio::task::spawn_blocking(move || {
            // Held to the end, also where nobody waits any more.
            let _turn = turn;
            let compute = || views.compute(&scope, &mut GlobMatches::new(&views.server), true);
            let view = views.computed(&scope).or_else(compute);
            if let (Some(view), Some(caller)) = (view, caller)
                && views.computed_of(&scope, &caller).is_none()
            {
                views.compute_of(view, &scope, &caller);
            }
        });
        // What failed is not there when it is looked for.
        let _done = computing.await;
    }

    /// Returns how many steps it takes to compute the view of `scope`, at most; `None` if it does not allow the server.
    pub(super) fn steps_to_compute(&self, scope: &Scope, globs: &GlobMatches<'_>) -> Option<usize> {
        let rules = if self.depend_on_caller() { 0 } else { self.rule_steps() };
        Some(globs.steps_to_find(&scope.at(&self.server)?).saturating_add(rules))
    }

    /// Returns the view of `scope` if it is computed.
    pub(super) fn computed(&self, scope: &Scope) -> Option<&Arc<View>> {
        self.by_scope.get(scope.id()).map(|seen| &seen.view)
    }

    /// Returns whether a request has used the view of `scope` since it was computed.
    pub(super) fn is_used(&self, scope: &Scope) -> bool {
        self.by_scope.get(scope.id()).is_some_and(|seen| seen.used.load(Ordering::Relaxed))
    }

    /// Computes the view of `scope`; `None` if it does not allow the server. Rules that look at who calls are left to `view_of`.
    pub(super) fn compute(
        &self,
        scope: &Scope,
        globs: &mut GlobMatches<'_>,
        used: bool,
    ) -> Option<&Arc<View>> {
        let visible = Visible::new(&scope.at(&self.server)?, globs);
        let rules = self.server.rules.as_ref().filter(|rules| !rules.need_caller());
        let known = rules.map(|rules| rules.known_for_everybody(&self.server));
        let visible = known.into_iter().fold(visible, Visible::under);
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

impl CallerView {
    fn is_of(&self, scope: &Scope, caller: &Caller) -> bool {
        self.scope == scope.id() && self.view.caller() == caller
    }
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
