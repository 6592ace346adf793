//! Tokens, and the scopes of their access.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use mcp::uri::{CanonicalUri, resolves_elsewhere};

use super::{Conditions, Entry, HeldRights, List, Server, TokenLimit, glob};

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
    /// What must hold beside. `None`: nothing.
    pub conditions: Option<Box<Conditions>>,
    /// Its rates and quotas, in the order in which they are checked.
    pub limits: Box<[TokenLimit]>,
    /// The identities of the client certificates by which it is presented.
    pub certificates: Box<[Box<str>]>,
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

/// Rights, from which it follows what is allowed at a server.
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum Rights {
    /// Those that a token lists.
    Listed(Permissions),
    /// Those that somebody holds by roles and teams.
    Held(HeldRights),
}

/// What is allowed by several rights at once; one object for everybody who has the same. It knows no server: what it shows of
/// one is a `View`, which the server keeps.
#[derive(Debug)]
pub struct Scope {
    id: u64,
    all_of: Arc<[Rights]>,
}

/// The scopes in use, each once.
#[derive(Debug, Default)]
pub struct Scopes(Mutex<HashMap<Arc<[Rights]>, Arc<Scope>>>);

/// Never used twice in a process: views are looked up by it.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Permissions {
    /// Those that allow everything.
    pub fn all() -> &'static Permissions {
        static ALL: LazyLock<Permissions> = LazyLock::new(|| {
            let all = || vec![Box::from("*")];
            Permissions { servers: all(), tools: all(), resources: all(), prompts: all() }
        });
        &ALL
    }

    /// The globs that are about entries of a list.
    fn of(&self, list: List) -> &[Box<str>] {
        match list {
            List::Tools => &self.tools,
            List::Resources | List::ResourceTemplates => &self.resources,
            List::Prompts => &self.prompts,
        }
    }

    /// Returns whether they allow the server with this id at all.
    pub fn allow(&self, server: &str) -> bool {
        self.servers.iter().any(|allowed| &**allowed == "*" || &**allowed == server)
    }
}

impl Rights {
    /// Returns what they allow at `server`; `None` if they do not allow it at all.
    fn at(&self, server: &Server) -> Option<Cow<'_, Permissions>> {
        match self {
            Rights::Listed(permissions) => {
                permissions.allow(&server.id).then_some(Cow::Borrowed(permissions))
            }
            Rights::Held(held) => held.at(server),
        }
    }
}

impl Scope {
    /// The number of this scope, unique in the process.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Returns what is allowed at `server`: what all of these allow. `None` if it is not allowed at all.
    pub fn at(&self, server: &Server) -> Option<Vec<Cow<'_, Permissions>>> {
        let all_of: Option<Vec<_>> = self.all_of.iter().map(|rights| rights.at(server)).collect();
        all_of.filter(|all_of| !all_of.is_empty())
    }

    /// Returns whether it allows an entry of `server`, whatever rules say; or one of the URIs that it, a template, produces.
    pub fn names(&self, server: &Server, list: List, entry: &Entry, uris: &[&CanonicalUri]) -> bool {
        let is_uri = matches!(list, List::Resources | List::ResourceTemplates);
        let former = entry.former();
        let named = |glob: &str| {
            let names = [Some(&*entry.exposed), former.as_deref()].into_iter().flatten();
            let leads_out =
                |name: &str| is_uri && glob != "*" && glob.contains('*') && resolves_elsewhere(name);
            names.into_iter().any(|name| glob::matches(glob, name) && !leads_out(name))
        };
        let allowed = |permissions: &Cow<'_, Permissions>| {
            let globs = permissions.of(list);
            let by_uri = || uris.iter().any(|uri| glob::any_matches_uri(globs, uri));
            globs.iter().any(|glob| named(glob)) || by_uri()
        };
        self.at(server).is_some_and(|all_of| all_of.iter().all(allowed))
    }
}

impl Scope {
    /// The names of the teams that whoever has it is in, in order: those of the owner, of a token.
    pub fn teams(&self) -> Vec<String> {
        let held = self.all_of.iter().filter_map(|rights| match rights {
            Rights::Held(held) => Some(&held.member_of),
            Rights::Listed(_) => None,
        });
        let mut teams: Vec<String> = held.flatten().map(|team| team.to_string()).collect();
        teams.sort_unstable();
        teams.dedup();
        teams
    }
}

impl PartialEq for Scope {
    /// Scopes of the same rights are equal, whenever they were made.
    fn eq(&self, other: &Self) -> bool {
        self.all_of == other.all_of
    }
}

impl Scopes {
    /// Returns the scope of what all of these rights allow.
    pub fn of(&self, all_of: Vec<Rights>) -> Arc<Scope> {
        let all_of: Arc<[Rights]> = all_of.into();
        let mut scopes = self.lock();
        let scope = scopes.entry(Arc::clone(&all_of));
        Arc::clone(
            scope.or_insert_with(|| Arc::new(Scope { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), all_of })),
        )
    }

    /// Returns all of them.
    pub fn all(&self) -> Vec<Arc<Scope>> {
        self.lock().values().cloned().collect()
    }

    /// Drops those that nobody has any more. Returns how many those were.
    pub fn drop_unused(&self) -> usize {
        let mut scopes = self.lock();
        let before = scopes.len();
        scopes.retain(|_, scope| Arc::strong_count(scope) > 1);
        before - scopes.len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<[Rights]>, Arc<Scope>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
