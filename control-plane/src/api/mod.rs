//! The control plane's API: each file decodes, acts and encodes for one package or concern.
//!
//! Everything about resources goes through one generic path ([`crud`], [`write`]); the files named after
//! services are thin. It must not know how upstreams are probed, nor how what edges are sent is made.

mod access_changes;
mod api_keys;
mod approvals;
pub mod audited;
pub mod authenticate;
mod belongings;
pub mod bodies;
mod bulk;
mod catalogue;
mod certificates;
pub mod credentials;
mod crud;
pub mod database;
mod delete_many;
mod guard;
mod holders;
pub mod json;
mod keys;
mod list;
mod ownership;
mod people;
pub mod permissions;
mod policy;
pub mod proofs;
mod prune;
mod references;
mod roles;
mod rpc;
mod rules;
mod secrets;
mod servers;
mod service_accounts;
mod sessions;
mod sign_in;
mod signing_keys;
mod standard;
mod surroundings;
mod system;
mod teams;
mod tokens;
mod upstreams;
mod users;
mod write;

use std::sync::{Arc, Mutex};

use egress::Rule;
use tokio::sync::watch;
use tonic::service::RoutesBuilder;
use trunkline::admin::v1::bulk_service_server::BulkServiceServer;

use crate::approvals::Approvals;
use crate::audit::AuditRecorder;
use crate::auth::keys::Signer;
use crate::auth::tunnel::TunnelCredentials;
use crate::auth::vault::Vault;
use crate::clock;
use crate::snapshot::content::Snapshot;
use crate::store::Store;
use crate::sync::CatalogueSync;

/// The largest request that is taken: an `ApplyResources` of 10,000 manifests fits.
pub const MAX_REQUEST_BYTES: usize = 32 << 20;

/// The services of the registry, identity and admin packages. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    inner: Arc<Inner>,
    /// What edges are sent.
    snapshots: watch::Receiver<Arc<Snapshot>>,
    approvals: Approvals,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    vault: Arc<Vault>,
    signer: Arc<Signer>,
    tunnels: TunnelCredentials,
    sync: CatalogueSync,
    catalogue: Mutex<Arc<catalogue::CatalogueAtRevision>>,
    upstream_states: surroundings::SeenStates,
    people: surroundings::SeenPeople,
    run: ReplicaRun,
    proofs: proofs::Proofs,
    audit: AuditRecorder,
}

/// This run of this process.
#[derive(Debug)]
struct ReplicaRun {
    /// Its name among the replicas.
    replica: String,
    start_us: i64,
}

impl Registry {
    /// Assembles the services of the run that is named `replica`.
    pub fn new(
        store: Store,
        vault: Arc<Vault>,
        signer: Arc<Signer>,
        sync: CatalogueSync,
        replica: String,
        proofs: proofs::Proofs,
        audit: AuditRecorder,
    ) -> Self {
        let tunnels = TunnelCredentials::new(signer.clone());
        let inner = Inner {
            store,
            vault,
            signer,
            tunnels,
            sync,
            catalogue: Mutex::default(),
            upstream_states: surroundings::SeenStates::default(),
            people: surroundings::SeenPeople::default(),
            run: ReplicaRun { replica, start_us: clock::now_us() },
            proofs,
            audit,
        };
        Self {
            inner: Arc::new(inner),
            snapshots: watch::channel(Arc::default()).1,
            approvals: Approvals::default(),
        }
    }

    /// Keeps approvals as these say.
    pub fn with_approvals(self, approvals: Approvals) -> Self {
        Self { approvals, ..self }
    }

    /// Decides who may do what by these snapshots. Without them there is nothing that anybody may do.
    pub fn with_snapshots(self, snapshots: watch::Receiver<Arc<Snapshot>>) -> Self {
        Self { snapshots, ..self }
    }

    /// Adds the services to those of others.
    pub fn add_to(&self, routes: &mut RoutesBuilder) {
        self.add_unary_services(routes);
        routes.add_service(BulkServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST_BYTES));
    }

    fn egress_rule(&self) -> &Rule {
        self.inner.sync.egress_rule()
    }

    fn audit(&self) -> &AuditRecorder {
        &self.inner.audit
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }
}
