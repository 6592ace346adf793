//! The state that an edge serves from: one immutable, indexed value that a request pins from start to end.
//!
//! It must not know transports, sessions or upstream connections, and nothing here does IO except
//! `client` (the stream from the control plane) and `disk` (the last known good copy).

pub mod build;
pub mod client;
mod conditions;
mod current;
pub mod disk;
mod fingerprint;
pub mod glob;
mod grants;
mod held_rights;
mod method_set;
mod pages;
mod rules;
mod scope;
mod server;
mod sibling;
mod token_limit;
mod trust;
mod upstream;
mod uri_index;
mod view;
mod views;
mod visible;

use std::collections::HashMap;
use std::sync::Arc;

pub use conditions::{Conditions, OpenTimes};
pub use current::Current;
use fingerprint::Fingerprint;
pub use grants::{BearerGrants, GrantPair, Grants, RoleRights, Withdrawn};
pub use held_rights::{HeldRights, TeamRights};
pub use method_set::MethodSet;
pub use pages::{Budget, List, Lists, PageLimits, Pages};
pub use rules::{RuledFacts, RuledUse, ServerRules, later_arguments, used_by};
pub use scope::{Permissions, Rights, Scope, Scopes, Token};
pub use server::{Entry, Server, Servers, Table, TaskSupport, ToolFacts};
pub use sibling::{Sha256, Sibling, Siblings};
pub use token_limit::TokenLimit;
pub use trust::{Issuer, SealingKey, SealingKeys, Trust, VerificationKey};
pub use upstream::{
    ConnectionKey, Credential, Generations, McpTransport, McpUpstream, Reach, Upstream, UpstreamKind,
};
pub use uri_index::{UpstreamNames, UriIndex};
pub use view::View;
pub use views::{NoView, ServerViews};
pub use visible::{GlobMatches, Positions, Visible};

/// The state that an edge serves from, at one revision. Built off the request path, then published as a whole.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The registry revision it was built from. For people.
    pub revision: i64,
    /// Virtual servers by id (`dev`, not `servers/dev`).
    pub servers: Servers,
    /// Tokens by uid, the `jti` of a bearer.
    pub tokens: Arc<HashMap<Box<str>, Arc<Token>>>,
    /// Tokens by the identities of certificates that they name; `None` where several do.
    pub certificates: Arc<HashMap<Box<str>, Option<Arc<Token>>>>,
    /// What roles and teams grant to people, and what was withdrawn.
    pub grants: Arc<Grants>,
    /// Upstreams by id.
    pub upstreams: HashMap<Box<str>, Arc<Upstream>>,
    /// The keys and terms that bearers and handles are verified by.
    pub trust: Arc<Trust>,
    /// The edges of the fleet, this one included.
    pub siblings: Arc<Siblings>,
}

impl Snapshot {
    /// Returns the token that names a certificate of these identities. Where it could be one or another, it is none.
    pub fn token_of(&self, identities: &[Box<str>]) -> Option<&Arc<Token>> {
        let mut named = identities.iter().filter_map(|identity| self.certificates.get(identity));
        let first = named.next()?.as_ref()?;
        named.all(|other| other.as_ref().is_some_and(|other| other.uid == first.uid)).then_some(first)
    }
}
