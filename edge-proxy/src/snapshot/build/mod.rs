//! From the messages of `edge.v1` to a snapshot: pure, and whole-resource-wise.
//!
//! A resource is refused for what it is, never for what it refers to: `accept` looks at it alone. So a
//! refusal is known before anything is built, the last good version stays, and the order in which types
//! arrive cannot cause one. What refers to something that is not (or not yet) here is left out of the
//! snapshot and named as a `Gap`; everything beside it goes on.

mod accept;
mod definition;
mod held;
mod peers;
mod scopes;
mod servers;
mod trust;
mod upstreams;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use trunkline::edge::v1 as wire;

use super::Fingerprint;
use super::{Budget, EdgePeers, Kind, PageLimits, Servers, Snapshot, Trust};
pub use accept::Unusable;
pub use held::{Held, Offer};

use held::HeldResources;
use scopes::ScopeCache;
use servers::ServerCache;
use upstreams::UpstreamCache;

/// A resource that could not be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its type.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Something that refers to what is not here, and is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The resource that refers.
    pub from: Box<str>,
    /// What it refers to.
    pub to: Box<str>,
}

/// A snapshot, and what is missing from it.
#[derive(Debug)]
pub struct Compiled {
    /// What to publish.
    pub snapshot: Arc<Snapshot>,
    /// What is left out because it leads nowhere; at most 100.
    pub gaps: Vec<Gap>,
}

/// Holds the last good version of every resource, and builds snapshots that share what has not changed.
#[derive(Debug)]
pub struct Builder {
    held: HeldResources,
    changed: Changed,
    upstreams: UpstreamCache,
    servers: ServerCache,
    scopes: ScopeCache,
    trust: Arc<Trust>,
    peers: Arc<EdgePeers>,
}

/// What changed since the last snapshot, in the grain in which things are built anew.
#[derive(Debug, Default)]
struct Changed {
    /// Names of upstreams, of which anything changed: themselves, their secret, one of their tools.
    upstreams: HashSet<Box<str>>,
    /// Names of those of them that changed themselves, or whose secret did.
    endpoints: HashSet<Box<str>>,
    servers: HashSet<Box<str>>,
    tokens: HashSet<Box<str>>,
    trust: bool,
    peers: bool,
}

const MAX_GAPS: usize = 100;

impl Builder {
    /// Holds nothing yet.
    pub fn new(limits: PageLimits, budget: Budget) -> Builder {
        Builder {
            held: HeldResources::default(),
            changed: Changed::default(),
            upstreams: UpstreamCache::default(),
            servers: ServerCache::default(),
            scopes: ScopeCache::new(limits, budget),
            trust: Arc::default(),
            peers: Arc::default(),
        }
    }

    /// Takes a new version of a resource, or says why not and keeps the one it holds.
    pub fn put(&mut self, offer: Offer) -> Result<(), Refusal> {
        let (kind, name) = (offer.kind, offer.name.clone());
        if self.held.put(offer)? {
            self.changed.note(kind, &name);
        }
        Ok(())
    }

    /// Drops a resource.
    pub fn remove(&mut self, kind: Kind, name: &str) {
        if self.held.remove(kind, name) {
            self.changed.note(kind, name);
        }
    }

    /// All that is held of `kind`, by name.
    pub fn held(&self, kind: Kind) -> impl Iterator<Item = (&str, &Held)> {
        self.held.of(kind)
    }

    /// What is refused at present: the newest offer of each was not usable.
    pub fn refused(&self) -> Vec<Refusal> {
        self.held.refused()
    }

    /// Forgets what was refused, because it will be offered again where it still is.
    pub fn forget_refused(&mut self) {
        self.held.forget_refused();
    }

    /// How many are refused at present.
    pub fn refused_count(&self) -> usize {
        self.held.refused_count()
    }

    /// Builds the snapshot of all that is held.
    pub fn compile(&mut self, revision: i64) -> Compiled {
        let changed = std::mem::take(&mut self.changed);
        let mut gaps = self.upstreams.update(&self.held, &changed.endpoints);
        let servers_moved = self.servers.update(&self.held, &changed, &self.upstreams);
        if servers_moved {
            let servers = Servers::new(self.servers.iter().cloned());
            self.scopes.move_to(servers);
        }
        self.scopes.update(&self.held, &changed.tokens);
        if changed.trust {
            self.trust = trust::of(&self.held);
        }
        if changed.peers {
            self.peers = peers::of(&self.held);
        }
        gaps.extend(self.servers.gaps().take(MAX_GAPS.saturating_sub(gaps.len())).cloned());
        gaps.truncate(MAX_GAPS);
        let snapshot = Snapshot {
            revision,
            servers: self.scopes.servers().clone(),
            tokens: self.scopes.tokens(),
            upstreams: self.upstreams.by_id(),
            trust: Arc::clone(&self.trust),
            peers: Arc::clone(&self.peers),
        };
        Compiled { snapshot: Arc::new(snapshot), gaps }
    }
}

impl Changed {
    fn note(&mut self, kind: Kind, name: &str) {
        match kind {
            Kind::Secret | Kind::Upstream => {
                self.endpoints.insert(name.into());
                self.upstreams.insert(name.into());
            }
            Kind::Tool | Kind::Resource | Kind::Prompt => {
                self.upstreams.insert(upstream_of(name).into());
            }
            Kind::Server => {
                self.servers.insert(name.into());
            }
            Kind::Token => {
                self.tokens.insert(name.into());
            }
            Kind::TrustBundle => self.trust = true,
            Kind::EdgePeer => self.peers = true,
        }
    }
}

/// `upstreams/time` of `upstreams/time/tools/now`; the whole name where it has no such shape.
fn upstream_of(target: &str) -> &str {
    match target.match_indices('/').nth(1) {
        Some((at, _)) => &target[..at],
        None => target,
    }
}

/// The messages of a whole world, for those that have them at hand.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "named as the types are")]
pub struct Resources {
    pub secrets: Vec<wire::Secret>,
    pub trust_bundles: Vec<wire::TrustBundle>,
    pub edge_peers: Vec<wire::EdgePeer>,
    pub upstreams: Vec<wire::Upstream>,
    pub tools: Vec<wire::Tool>,
    pub resources: Vec<wire::Resource>,
    pub prompts: Vec<wire::Prompt>,
    pub tokens: Vec<wire::Token>,
    pub servers: Vec<wire::Server>,
}

/// Builds a snapshot of these, and says which of them could not be used.
pub fn compile(resources: &Resources) -> (Arc<Snapshot>, Vec<Refusal>) {
    let mut builder = Builder::new(PageLimits::default(), Budget::default());
    let mut refusals = Vec::new();
    for offer in resources.offers() {
        refusals.extend(builder.put(offer).err());
    }
    (builder.compile(0).snapshot, refusals)
}

impl Resources {
    /// Each as it would arrive on the stream.
    pub fn offers(&self) -> Vec<Offer> {
        let mut offers = Vec::new();
        let mut add = |kind, name: &str, body: Vec<u8>| offers.push(Offer::new(kind, name, body.into()));
        self.secrets.iter().for_each(|m| add(Kind::Secret, &m.name, m.encode_to_vec()));
        self.trust_bundles.iter().for_each(|m| add(Kind::TrustBundle, &m.name, m.encode_to_vec()));
        self.edge_peers.iter().for_each(|m| add(Kind::EdgePeer, &m.name, m.encode_to_vec()));
        self.upstreams.iter().for_each(|m| add(Kind::Upstream, &m.name, m.encode_to_vec()));
        self.tools.iter().for_each(|m| add(Kind::Tool, &m.name, m.encode_to_vec()));
        self.resources.iter().for_each(|m| add(Kind::Resource, &m.name, m.encode_to_vec()));
        self.prompts.iter().for_each(|m| add(Kind::Prompt, &m.name, m.encode_to_vec()));
        self.tokens.iter().for_each(|m| add(Kind::Token, &m.name, m.encode_to_vec()));
        self.servers.iter().for_each(|m| add(Kind::Server, &m.name, m.encode_to_vec()));
        offers
    }
}

impl Offer {
    /// A resource whose version is a hash of its content.
    pub fn new(kind: Kind, name: &str, body: Bytes) -> Offer {
        let version = format!("{:032x}", Fingerprint::new().part(&body).finish());
        Offer { kind, name: name.to_owned(), version, body }
    }
}

/// Decodes what `accept` has seen to decode.
fn decode<M: Message + Default>(held: &Held) -> M {
    M::decode(held.body.clone()).unwrap_or_default()
}

type ByName<T> = HashMap<Box<str>, T>;

#[cfg(test)]
mod tests;
