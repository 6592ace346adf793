//! The messages of `edge.v1` compiled to a snapshot: pure, one resource at a time.
//!
//! A resource is refused for its own content, never for what it refers to: `accept` looks at it alone. So a refusal is
//! known before anything is built, the last good version stays, and the order in which types arrive cannot cause one. A
//! reference to something that is not (or not yet) here is left out of the snapshot and reported as a
//! `MissingReference`; everything beside it is served.

mod accept;
mod accepted;
mod conditions;
mod definition;
mod grants;
mod mentions;
mod rules;
mod scopes;
mod servers;
mod siblings;
mod trust;
mod unusable;
mod upstreams;
mod views;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use delta::client::Sink;
use prost::Message;
use trunkline::edge::v1 as wire;
use trunkline::edge::v1::StreamType;

use super::Fingerprint;
use super::{Budget, PageLimits, Scope, Siblings, Snapshot, Trust};
pub use accept::InvalidResource;
pub use accepted::Accepted;
pub use unusable::UnusablePolicy;
pub use views::{ListsInUse, ViewsInUse};

use accepted::AcceptedResources;
use grants::GrantCache;
use scopes::ScopeCache;
use servers::ServerCache;
use unusable::Unusable;
use upstreams::UpstreamCache;
use views::ViewCache;

/// A resource as it arrives.
pub type Candidate = delta::client::Candidate<StreamType>;

/// A resource that could not be used, and why.
pub type Refusal = delta::client::Refusal<StreamType>;

/// A reference to something that is not here, and that is left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingReference {
    /// The resource that refers.
    pub from: Box<str>,
    /// The name that it refers to. `None`: the secret of an upstream.
    pub to: Option<Box<str>>,
}

/// A snapshot, and the references missing from it.
#[derive(Debug)]
pub struct Compiled {
    /// The snapshot before, without what was taken away since: to be published ahead of what takes time. `None`: nothing was, or
    /// nothing takes time.
    pub ahead: Option<Arc<Snapshot>>,
    /// To be computed before the snapshot is published.
    pub views_in_use: ViewsInUse,
    /// The snapshot to publish.
    pub snapshot: Arc<Snapshot>,
    /// The references that are left out; at most 100.
    pub missing: Vec<MissingReference>,
    /// What cannot be evaluated and so denies, as far as it was not reported before.
    pub unusable: Vec<UnusablePolicy>,
    /// How many resources there are of which a part denies for that reason.
    pub unusable_count: usize,
}

/// The last good version of every resource, and a compiler of snapshots that share what has not changed.
#[derive(Debug)]
pub struct Builder {
    accepted: AcceptedResources,
    changed: Changed,
    upstreams: UpstreamCache,
    servers: ServerCache,
    grants: GrantCache,
    scopes: ScopeCache,
    views: ViewCache,
    unusable: Unusable,
    trust: Arc<Trust>,
    siblings: Arc<Siblings>,
    /// What was compiled last, as long as somebody uses it: what it holds alone is to go.
    last: Weak<Snapshot>,
}

/// The changes since the last snapshot, by what must be built anew.
#[derive(Debug, Default)]
struct Changed {
    /// Names of upstreams of which anything changed: themselves, their secret, one of their tools.
    upstreams: HashSet<Box<str>>,
    /// Names of those among them that changed themselves, or whose secret did.
    endpoints: HashSet<Box<str>>,
    servers: HashSet<Box<str>>,
    tokens: HashSet<Box<str>>,
    grants: bool,
    withdrawals: bool,
    trust: bool,
    siblings: bool,
}

const MAX_MISSING: usize = 100;

impl Builder {
    /// Creates a builder without resources.
    pub fn new(limits: PageLimits, budget: Budget) -> Builder {
        Builder {
            accepted: AcceptedResources::default(),
            changed: Changed::default(),
            upstreams: UpstreamCache::default(),
            servers: ServerCache::default(),
            grants: GrantCache::default(),
            scopes: ScopeCache::default(),
            views: ViewCache::new(limits, budget),
            unusable: Unusable::default(),
            trust: Arc::default(),
            siblings: Arc::default(),
            last: Weak::new(),
        }
    }

    /// Iterates over the accepted resources of `kind`, with their names.
    pub fn accepted(&self, kind: StreamType) -> impl Iterator<Item = (&str, &Accepted)> {
        self.accepted.of(kind)
    }

    /// Returns the current refusals: the newest candidate of each was not usable.
    pub fn refused(&self) -> Vec<Refusal> {
        self.accepted.refused()
    }

    /// Counts the current refusals.
    pub fn refused_count(&self) -> usize {
        self.accepted.refused_count()
    }
}

impl Sink for Builder {
    type Kind = StreamType;
    type Compiled = Compiled;

    fn accept(&mut self, candidate: Candidate) -> Result<(), Refusal> {
        let (kind, name) = (candidate.kind, candidate.name.clone());
        if self.accepted.put(candidate)? {
            self.changed.note(kind, &name);
        }
        Ok(())
    }

    fn remove(&mut self, kind: StreamType, name: &str) {
        if self.accepted.remove(kind, name) {
            self.changed.note(kind, name);
        }
    }

    fn versions(&self, kind: StreamType) -> BTreeMap<String, String> {
        self.accepted(kind).map(|(name, accepted)| (name.to_owned(), accepted.version.to_string())).collect()
    }

    fn forget_refused(&mut self) {
        self.accepted.forget_refused();
    }

    fn compile(&mut self, revision: i64) -> Compiled {
        let changed = std::mem::take(&mut self.changed);
        let mut missing = self.upstreams.update(&self.accepted, &changed.endpoints);
        let servers_changed =
            self.servers.update(&self.accepted, &changed, &self.upstreams, &mut self.unusable);
        let scopes = self.update_rights(&changed, servers_changed);
        let views_in_use = match servers_changed {
            true => self.views.move_to(self.servers.iter(), scopes),
            false => ViewsInUse::default(),
        };
        if changed.trust {
            self.trust = trust::of(&self.accepted);
        }
        if changed.siblings {
            self.siblings = siblings::of(&self.accepted);
        }
        // Where nothing is served yet, nothing goes on.
        let last = self.last.upgrade().filter(|last| servers_changed && !last.servers.is_empty());
        let ahead = last.and_then(|last| self.without_what_was_taken(&last, &changed));
        missing.extend(self.servers.missing().take(MAX_MISSING.saturating_sub(missing.len())).cloned());
        missing.truncate(MAX_MISSING);
        let snapshot = Arc::new(Snapshot {
            revision,
            servers: self.views.servers().clone(),
            tokens: self.scopes.tokens(),
            certificates: self.scopes.certificates(),
            grants: Arc::clone(self.grants.grants()),
            upstreams: self.upstreams.by_id(),
            trust: Arc::clone(&self.trust),
            siblings: Arc::clone(&self.siblings),
        });
        self.last = Arc::downgrade(&snapshot);
        let (unusable, unusable_count) = (self.unusable.news(), self.unusable.len());
        Compiled { ahead, views_in_use, snapshot, missing, unusable, unusable_count }
    }
}

impl Builder {
    /// The last snapshot, without the tokens that ended, what was withdrawn from people and the keys that are trusted no more. It
    /// gives nothing that is new: what is given now may be meant for servers as they are now.
    fn without_what_was_taken(&self, last: &Snapshot, changed: &Changed) -> Option<Arc<Snapshot>> {
        let tokens = if changed.tokens.is_empty() { None } else { self.scopes.without_ended(&last.tokens) };
        if tokens.is_none() && !changed.withdrawals && !changed.trust {
            return None;
        }
        Some(Arc::new(Snapshot {
            revision: last.revision,
            servers: last.servers.clone(),
            tokens: tokens.map_or_else(|| Arc::clone(&last.tokens), Arc::new),
            certificates: Arc::clone(&last.certificates),
            grants: Arc::new(last.grants.withdrawing_as(self.grants.grants())),
            upstreams: last.upstreams.clone(),
            trust: Arc::clone(&self.trust),
            siblings: Arc::clone(&last.siblings),
        }))
    }

    /// Builds what roles, teams and tokens allow. Returns all scopes.
    fn update_rights(&mut self, changed: &Changed, servers_changed: bool) -> Vec<Arc<Scope>> {
        let servers = servers_changed.then(|| self.servers.iter());
        let (accepted, scopes) = (&self.accepted, Arc::clone(self.scopes.scopes()));
        let regranted = self.grants.update(accepted, changed, servers, &scopes, &mut self.unusable);
        let (tokens, grants) = (changed.tokens.clone(), self.grants.grants());
        self.scopes.update(accepted, tokens, regranted, grants, &mut self.unusable);
        let dropped = scopes.drop_unused();
        let scopes = scopes.all();
        self.views.maintain(&scopes, dropped);
        scopes
    }
}

impl Changed {
    fn note(&mut self, kind: StreamType, name: &str) {
        match kind {
            StreamType::Secret | StreamType::Upstream => {
                self.endpoints.insert(name.into());
                self.upstreams.insert(name.into());
            }
            StreamType::Tool | StreamType::Resource | StreamType::Prompt => {
                self.upstreams.insert(upstream_of(name).into());
            }
            StreamType::Server => {
                self.servers.insert(name.into());
            }
            StreamType::Token => {
                self.tokens.insert(name.into());
            }
            StreamType::Grant => self.grants = true,
            StreamType::Withdrawal => self.withdrawals = true,
            StreamType::TrustBundle => self.trust = true,
            StreamType::Sibling => self.siblings = true,
        }
    }
}

/// Returns `upstreams/time` for `upstreams/time/tools/now`; the whole name if it has no such shape.
fn upstream_of(target: &str) -> &str {
    match target.match_indices('/').nth(1) {
        Some((at, _)) => &target[..at],
        None => target,
    }
}

/// The messages of a whole snapshot, for tests and tools that have them at hand.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "named as the types are")]
pub struct Resources {
    pub secrets: Vec<wire::Secret>,
    pub trust_bundles: Vec<wire::TrustBundle>,
    pub siblings: Vec<wire::Sibling>,
    pub withdrawals: Vec<wire::Withdrawal>,
    pub grants: Vec<wire::Grant>,
    pub upstreams: Vec<wire::Upstream>,
    pub tools: Vec<wire::Tool>,
    pub resources: Vec<wire::Resource>,
    pub prompts: Vec<wire::Prompt>,
    pub tokens: Vec<wire::Token>,
    pub servers: Vec<wire::Server>,
}

/// Compiles these. Returns also the refusals of those that could not be used.
pub fn compile(resources: &Resources) -> (Arc<Snapshot>, Vec<Refusal>) {
    let mut builder = Builder::new(PageLimits::default(), Budget::default());
    let mut refusals = Vec::new();
    for candidate in resources.candidates() {
        refusals.extend(builder.accept(candidate).err());
    }
    (builder.compile(0).snapshot, refusals)
}

impl Resources {
    /// Returns each as it would arrive on the stream.
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let mut add = |kind, name: &str, body: Vec<u8>| candidates.push(candidate(kind, name, body.into()));
        self.secrets.iter().for_each(|m| add(StreamType::Secret, &m.name, m.encode_to_vec()));
        self.trust_bundles.iter().for_each(|m| add(StreamType::TrustBundle, &m.name, m.encode_to_vec()));
        self.siblings.iter().for_each(|m| add(StreamType::Sibling, &m.name, m.encode_to_vec()));
        self.withdrawals.iter().for_each(|m| add(StreamType::Withdrawal, &m.name, m.encode_to_vec()));
        self.grants.iter().for_each(|m| add(StreamType::Grant, &m.name, m.encode_to_vec()));
        self.upstreams.iter().for_each(|m| add(StreamType::Upstream, &m.name, m.encode_to_vec()));
        self.tools.iter().for_each(|m| add(StreamType::Tool, &m.name, m.encode_to_vec()));
        self.resources.iter().for_each(|m| add(StreamType::Resource, &m.name, m.encode_to_vec()));
        self.prompts.iter().for_each(|m| add(StreamType::Prompt, &m.name, m.encode_to_vec()));
        self.tokens.iter().for_each(|m| add(StreamType::Token, &m.name, m.encode_to_vec()));
        self.servers.iter().for_each(|m| add(StreamType::Server, &m.name, m.encode_to_vec()));
        candidates
    }
}

/// Creates a candidate whose version is a hash of its content.
fn candidate(kind: StreamType, name: &str, body: Bytes) -> Candidate {
    let version = format!("{:032x}", Fingerprint::new().part(&body).finish());
    Candidate { kind, name: name.to_owned(), version, body }
}

/// Decodes a message that `accept` has seen to decode.
fn decode<M: Message + Default>(accepted: &Accepted) -> M {
    M::decode(accepted.body.clone()).unwrap_or_default()
}

type ByName<T> = HashMap<Box<str>, T>;

#[cfg(test)]
pub(crate) mod tests;
