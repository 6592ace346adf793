//! All services on one router: gRPC, reflection, health, JSON, and what orchestrators ask.

use inbound::TransportRule;
use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tonic::service::Routes;
use trunkline::admin::v1::audit_service_server::AuditServiceServer;
use trunkline::discovery::v1::enrollment_service_server::EnrollmentServiceServer;
use trunkline::discovery::v1::fleet_service_server::FleetServiceServer;
use trunkline::policy::v1::limit_service_server::LimitServiceServer;
use trunkline::telemetry::v1::usage_service_server::UsageServiceServer;

use super::{Parts, http};
use crate::api::Registry;
use crate::api::audited::audited;
use crate::api::authenticate::{Authenticator, admit};
use crate::api::bodies::MAX_EDGE_MESSAGE_BYTES;
use crate::api::credentials::Credentials;
use crate::api::database::give_up_without_database;
use crate::api::json::transcode;
use crate::api::permissions::served;
use crate::api::proofs::Proofs;
use crate::approvals::inbox::{self, Inbox};
use crate::approvals::page;
use crate::auth::password::Passwords;
use crate::auth::tunnel::TunnelCredentials;
use crate::discovery::fleet_service::FleetApi;
use crate::discovery::limit_service::LimitLeases;
use crate::discovery::service::Discovery;
use crate::discovery::stream_codec::DiscoveryServer;
use crate::snapshot::Publisher;
use crate::tunnels;

pub(super) fn router(parts: &Parts, publisher: &Publisher) -> anyhow::Result<Router> {
    let (snapshots, database) = (publisher.snapshots(), publisher.database_health());
    let discovery = Discovery::new(
        snapshots.clone(),
        database.clone(),
        parts.fleet.clone(),
        parts.admission.clone(),
        parts.drain.clone(),
    );
    let fleets =
        FleetApi::new(parts.fleet.clone(), parts.store.clone(), parts.vault.clone(), parts.drain.clone());
    let (health, health_service) = tonic_health::server::health_reporter();
    http::watch_health(health, parts.drain.clone());
    let mut routes = Routes::builder();
    routes
        .add_service(DiscoveryServer::new(discovery, MAX_EDGE_MESSAGE_BYTES))
        .add_service(EnrollmentServiceServer::new(parts.enrollment.clone()))
        .add_service(FleetServiceServer::new(fleets))
        .add_service(
            UsageServiceServer::new(parts.usage_service.clone())
                .max_decoding_message_size(MAX_EDGE_MESSAGE_BYTES),
        )
        .add_service(
            LimitServiceServer::new(LimitLeases::new(&parts.store, parts.fleet.clone(), parts.redis.clone()))
                .max_decoding_message_size(MAX_EDGE_MESSAGE_BYTES),
        )
        .add_service(
            AuditServiceServer::new(parts.audit_service.clone())
                .max_decoding_message_size(MAX_EDGE_MESSAGE_BYTES),
        )
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    let (store, vault, signer) = (parts.store.clone(), parts.vault.clone(), parts.signer.clone());
    let credentials = Arc::new(Credentials::new(&store, parts.admin.clone()));
    let proofs = Proofs {
        passwords: Passwords::default(),
        transport: parts.sign_in.transport.clone(),
        credentials: credentials.clone(),
    };
    let audit = parts.audit.clone();
    Registry::new(store, vault, signer, parts.sync.clone(), parts.replica.clone(), proofs, audit)
        .with_snapshots(snapshots.clone())
        .with_approvals(parts.approvals.clone())
        .add_to(&mut routes);
    let basic = parts.sign_in.takes_basic.then(|| TransportRule {
        // Whoever takes passwords over plain HTTP in a lab has not asked for this.
        allows_plain: false,
        ..parts.sign_in.transport.clone()
    });
    let edges = parts.edge_authenticator.clone();
    let authenticator =
        Authenticator::new(credentials, edges, parts.bodies.clone(), basic, parts.audit.clone())?;
    // The authenticator is outermost: nothing of a stranger's body is kept.
    let api = routes
        .routes()
        .prepare()
        .into_axum_router()
        .layer(from_fn_with_state(parts.audit.clone(), audited))
        .layer(from_fn(transcode))
        .layer(from_fn_with_state(parts.store.clone(), give_up_without_database))
        .layer(from_fn_with_state(Arc::new(authenticator), admit));
    let endpoint = tunnels::TunnelEndpoint {
        credentials: TunnelCredentials::new(parts.signer.clone()),
        store: parts.store.clone(),
        tunnels: parts.tunnels.clone(),
        sync: parts.sync.clone(),
    };
    let plain =
        http::router(parts, snapshots, database).merge(tunnels::router(endpoint)).merge(approvals(parts));
    Ok(api.merge(plain).fallback(http::unknown))
}

/// The page that says what calls wait for, and decisions that come as webhooks where somebody can sign them.
fn approvals(parts: &Parts) -> Router {
    let router = page::router(parts.store.clone());
    let router = match parts.webhook_secrets.clone() {
        Some(secrets) => {
            let (store, approvals) = (parts.store.clone(), parts.approvals.clone());
            router.merge(inbox::router(Inbox { store, secrets, approvals }))
        }
        None => router,
    };
    router.layer(from_fn(http::close_after))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(trunkline::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    let builder = builder.with_service_name("grpc.health.v1.Health");
    served().fold(builder, |builder, name| builder.with_service_name(name))
}
