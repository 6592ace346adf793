//! Tokens, and the scopes of their access.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// A set of permissions; one object for every token that has the same. It knows no server: what it shows of one is a
/// `View`, which the server keeps.
#[derive(Debug)]
pub struct Scope {
    id: u64,
    permissions: Permissions,
}

/// Never used twice in a process: views are looked up by it.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Scope {
    /// Creates the scope of `permissions`.
    pub fn new(permissions: Permissions) -> Scope {
        Scope { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), permissions }
    }

    /// The number of this scope, unique in the process.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The permissions as they are configured.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// Returns whether it allows the server with this id at all.
    pub fn allows(&self, server: &str) -> bool {
        self.permissions.servers.iter().any(|allowed| &**allowed == "*" || &**allowed == server)
    }
}
