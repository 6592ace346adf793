//! Tokens and their permissions: sets shared by content, views computed on first use.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::{Budget, PageLimits, Servers, View};

/// A token, and the scope of its access.
#[derive(Debug)]
pub struct Token {
    /// `tokens/{token}`.
    pub name: Box<str>,
    /// The `jti` of its bearer.
    pub uid: Box<str>,
    /// The time of its end, in seconds since the Unix epoch.
    pub expires: Option<u64>,
    /// True if it was revoked.
    pub revoked: bool,
    /// Shared between all tokens with the same permissions.
    pub scope: Arc<Scope>,
}

/// Permissions as they are configured. An empty list allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permissions {
    /// Ids of servers, or `*` for every one.
    pub servers: Vec<Box<str>>,
    /// Globs for exposed names of tools.
    pub tools: Vec<Box<str>>,
    /// Globs for exposed URIs and URI templates.
    pub resources: Vec<Box<str>>,
    /// Globs for exposed names of prompts.
    pub prompts: Vec<Box<str>>,
}

/// A set of permissions on the servers of one snapshot; one object for every token that has the same.
///
/// An unused scope costs its permissions alone: its views are computed when first requested.
#[derive(Debug)]
pub struct Scope {
    permissions: Permissions,
    servers: Servers,
    views: OnceLock<Views>,
    limits: PageLimits,
    budget: Budget,
}

type Views = HashMap<Box<str>, OnceLock<Arc<View>>>;

impl Scope {
    /// Creates the scope of `permissions` on `servers`.
    pub fn new(permissions: Permissions, servers: Servers, limits: PageLimits, budget: Budget) -> Scope {
        Scope { permissions, servers, views: OnceLock::new(), limits, budget }
    }

    /// Returns the view of the server with this id; `None` if there is none or it is not allowed.
    pub fn view(&self, server: &str) -> Option<&Arc<View>> {
        let slot = self.views().get(server)?;
        let server = self.servers.get(server)?;
        Some(slot.get_or_init(|| Arc::new(View::new(server, &self.permissions, self.limits, &self.budget))))
    }

    /// The ids of the servers that it allows, in no order.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.views().keys().map(AsRef::as_ref)
    }

    /// The permissions as they are configured.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// Inherits the views that `earlier`, of the same permissions, has of servers that have not changed.
    pub(super) fn inherit(&self, earlier: &Scope) {
        let Some(decided) = earlier.views.get() else { return };
        for (id, slot) in decided {
            let (Some(view), Some(server)) = (slot.get(), self.servers.get(id)) else { continue };
            if Arc::ptr_eq(&view.server, server)
                && let Some(empty) = self.views().get(id)
            {
                empty.get_or_init(|| Arc::clone(view));
            }
        }
    }

    fn views(&self) -> &Views {
        self.views.get_or_init(|| {
            let all = self.permissions.servers.iter().any(|server| &**server == "*");
            let allowed = |id: &str| all || self.permissions.servers.iter().any(|server| &**server == id);
            let ids = self.servers.iter().map(|server| &server.id).filter(|id| allowed(id));
            ids.map(|id| (id.clone(), OnceLock::new())).collect()
        })
    }
}
