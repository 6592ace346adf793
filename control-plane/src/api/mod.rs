//! The control plane's API: each file decodes, acts and encodes for one package or concern.
//!
//! Everything about resources goes through one generic path ([`crud`], [`write`]); the files named after
//! services are thin. It must not know how upstreams are probed, nor what edges are sent.

pub mod authenticate;
pub mod bodies;
mod bulk;
mod catalogue;
mod crud;
pub mod database;
mod delete_many;
pub mod json;
mod list;
pub mod permissions;
mod prune;
mod rpc;
mod secrets;
mod servers;
mod signing_keys;
mod standard;
mod surroundings;
mod system;
mod tokens;
mod upstreams;
mod write;

use std::sync::{Arc, Mutex};

use egress::Rule;
use tonic::service::RoutesBuilder;
use trunkline::admin::v1::bulk_service_server::BulkServiceServer;

use crate::auth::keys::Signer;
use crate::auth::tunnel::TunnelCredentials;
use crate::auth::vault::Vault;
use crate::clock;
use crate::store::Store;
use crate::sync::CatalogueSync;

/// The largest request that is taken: an `ApplyResources` of 10,000 manifests fits.
pub const MAX_REQUEST_BYTES: usize = 32 << 20;

/// The services of the registry, identity and admin packages. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    inner: Arc<Inner>,
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
    run: ReplicaRun,
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
            run: ReplicaRun { replica, start_us: clock::now_us() },
        };
        Self { inner: Arc::new(inner) }
    }

    /// Adds the services to those of others.
    pub fn add_to(&self, routes: &mut RoutesBuilder) {
        self.add_unary_services(routes);
        routes.add_service(BulkServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST_BYTES));
    }

    fn egress_rule(&self) -> &Rule {
        self.inner.sync.egress_rule()
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }
}
