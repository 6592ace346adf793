//! The control plane's API: each file decodes, acts and encodes for one package or concern.
//!
//! Everything about resources goes through one generic path ([`resource`], [`write`]); the files named after
//! services are thin. It must not know how upstreams are asked, nor what edges are sent.

pub mod admit;
mod bulk;
mod catalogue;
mod entries;
pub mod json;
mod list;
pub mod permissions;
mod resource;
mod secrets;
mod servers;
mod signing_keys;
mod tokens;
mod upstreams;
mod write;

use std::sync::{Arc, Mutex};

use tonic::service::RoutesBuilder;
use trunkline::admin::v1::bulk_service_server::BulkServiceServer;
use trunkline::identity::v1::signing_key_service_server::SigningKeyServiceServer;
use trunkline::identity::v1::token_service_server::TokenServiceServer;
use trunkline::registry::v1::prompt_service_server::PromptServiceServer;
use trunkline::registry::v1::resource_service_server::ResourceServiceServer;
use trunkline::registry::v1::server_service_server::ServerServiceServer;
use trunkline::registry::v1::tool_service_server::ToolServiceServer;
use trunkline::registry::v1::upstream_service_server::UpstreamServiceServer;

use crate::auth::keys::Signer;
use crate::auth::tunnel::TunnelCredentials;
use crate::auth::vault::Vault;
use crate::store::Store;
use crate::sync::Handle;

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
    sync: Handle,
    catalogue: Mutex<Arc<catalogue::Known>>,
}

impl Registry {
    /// Assembles the services.
    pub fn new(store: Store, vault: Arc<Vault>, signer: Arc<Signer>, sync: Handle) -> Self {
        let tunnels = TunnelCredentials::new(signer.clone());
        Self { inner: Arc::new(Inner { store, vault, signer, tunnels, sync, catalogue: Mutex::default() }) }
    }

    /// Adds the services to those of others.
    pub fn add_to(&self, routes: &mut RoutesBuilder) {
        routes
            .add_service(
                UpstreamServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST_BYTES),
            )
            .add_service(ServerServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
            .add_service(ToolServiceServer::new(self.clone()))
            .add_service(ResourceServiceServer::new(self.clone()))
            .add_service(PromptServiceServer::new(self.clone()))
            .add_service(TokenServiceServer::new(self.clone()))
            .add_service(SigningKeyServiceServer::new(self.clone()))
            .add_service(BulkServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST_BYTES));
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }
}
