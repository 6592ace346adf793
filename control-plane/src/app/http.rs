//! Plain HTTP for orchestrators: `/healthz`, `/readyz`, `/metrics`; the check of names, and the answer to unknown paths.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use inbound::names::{AllowedNames, NameError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tunnel::Tunnels;

use trunkline::edge::v1::StreamType;

use super::Parts;
use crate::discovery::fleet::Fleet;
use crate::observe::{Gauge, render};
use crate::snapshot::DatabaseHealth;
use crate::snapshot::content::Snapshot;
use crate::store::Store;

/// Without an answer from the database for so long, this replica should get no traffic.
const READY: Duration = Duration::from_secs(15);

#[derive(Clone)]
struct HttpState {
    store: Store,
    fleet: Arc<Fleet>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    database: DatabaseHealth,
    tunnels: Arc<Tunnels>,
    drain: CancellationToken,
}

pub(super) fn router(
    parts: &Parts,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    database: DatabaseHealth,
) -> Router {
    let state = HttpState {
        store: parts.store.clone(),
        fleet: parts.fleet.clone(),
        snapshots,
        database,
        tunnels: parts.tunnels.clone(),
        drain: parts.drain.clone(),
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state)
}

/// Health says that nothing is served from the moment draining begins.
pub(super) fn watch_health(health: HealthReporter, drain: CancellationToken) {
    tokio::spawn(async move {
        drain.cancelled().await;
        health.set_service_status("", ServingStatus::NotServing).await;
    });
}

/// Any path that nothing else answers.
pub(super) async fn unknown(request: Request) -> Response {
    let path = request.uri().path();
    if is_grpc(&request) {
        return grpc(Status::unimplemented(format!("unknown rpc {path}")));
    }
    json(StatusCode::NOT_FOUND, "NOT_FOUND", &format!("nothing is served at {path}"))
}

/// Refuses requests by foreign names, and from pages of a browser that are not ours.
pub(super) async fn check_names(
    State(names): State<Arc<AllowedNames>>,
    request: Request,
    next: Next,
) -> Response {
    match names.check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) if is_grpc(&request) => grpc(Status::permission_denied(refusal(error))),
        Err(error) => json(StatusCode::FORBIDDEN, "PERMISSION_DENIED", &refusal(error)),
    }
}

fn refusal(error: NameError) -> String {
    format!("{error}; see --allowed-host")
}

fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn grpc(status: Status) -> Response {
    status.into_http::<axum::body::Body>().into_response()
}

fn json(status: StatusCode, code: &str, message: &str) -> Response {
    (status, axum::Json(serde_json::json!({"code": code, "message": message}))).into_response()
}

async fn ready(State(state): State<HttpState>) -> Response {
    let reason = if state.drain.is_cancelled() {
        "draining"
    } else if !state.database.within(READY) {
        "the database does not respond"
    } else {
        return "ready\n".into_response();
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
}

async fn metrics(State(state): State<HttpState>) -> Response {
    let snapshot = state.snapshots.borrow().clone();
    let size = |kind: StreamType| i64::try_from(snapshot.items[kind].len()).unwrap_or(i64::MAX);
    let known = *state.store.revisions().borrow();
    let tunnels = i64::try_from(state.tunnels.count()).unwrap_or(i64::MAX);
    let edges = i64::try_from(state.fleet.connected_here()).unwrap_or(i64::MAX);
    let gauge = |name, help, value| Gauge { name, help, value };
    let text = render(&[
        gauge(
            "trunkline_control_revision",
            "Newest revision of the registry that this replica knows.",
            known,
        ),
        gauge(
            "trunkline_control_published_revision",
            "Revision that is published to edges.",
            snapshot.revision,
        ),
        gauge("trunkline_control_edges_connected", "Edges connected to this replica.", edges),
        gauge("trunkline_control_upstreams", "Upstreams published to edges.", size(StreamType::Upstream)),
        gauge("trunkline_control_tools", "Tools published to edges.", size(StreamType::Tool)),
        gauge("trunkline_control_servers", "Virtual servers published to edges.", size(StreamType::Server)),
        gauge("trunkline_control_tokens", "Tokens published to edges.", size(StreamType::Token)),
        gauge("trunkline_control_tunnels", "Open tunnels of upstreams to this replica.", tunnels),
        gauge(
            "trunkline_control_database_fresh",
            "1 while the database responds.",
            i64::from(state.database.within(READY)),
        ),
    ]);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
