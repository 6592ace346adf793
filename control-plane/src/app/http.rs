//! Plain HTTP for orchestrators: `/healthz`, `/readyz`, `/metrics`; the schema of resource files for editors; the check of names, and the answer to unknown paths.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, Version, header};
use inbound::names::{AllowedNames, NameError};
use inbound::{BodyBudget, CloseReason, Connections, LentBody};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tunnel::Tunnels;

use trunkline::edge::v1::StreamType;

use super::Parts;
use crate::api::json::{is_grpc, refuse};
use crate::approvals::counters::ApprovalCounters;
use crate::discovery::audit_service::AuditApi;
use crate::discovery::enrollment_counters::EnrollmentCounters;
use crate::discovery::fleet::Fleet;
use crate::discovery::stream_admission::StreamAdmission;
use crate::discovery::usage_service::Usage;
use crate::error::Error;
use crate::observe::{Counter, Gauge, render};
use crate::snapshot::DatabaseHealth;
use crate::snapshot::content::{Snapshot, expiring_tokens};
use crate::store::Store;

/// Without an answer from the database for so long, this replica should get no traffic.
const READY: Duration = Duration::from_secs(15);

#[derive(Clone)]
struct HttpState {
    store: Store,
    fleet: Arc<Fleet>,
    admission: Arc<StreamAdmission>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    database: DatabaseHealth,
    tunnels: Arc<Tunnels>,
    connections: Connections,
    bodies: Arc<BodyBudget>,
    enrollments: Arc<EnrollmentCounters>,
    usage: Usage,
    audit: AuditApi,
    approvals: Arc<ApprovalCounters>,
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
        admission: parts.admission.clone(),
        snapshots,
        database,
        tunnels: parts.tunnels.clone(),
        connections: parts.connections.clone(),
        bodies: parts.bodies.budget.clone(),
        enrollments: parts.enrollment.counters(),
        usage: parts.usage_service.clone(),
        audit: parts.audit_service.clone(),
        approvals: parts.approvals.counters.clone(),
        drain: parts.drain.clone(),
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/schemas/trunkline.json", get(file_schema))
        .layer(from_fn(close_after))
        .with_state(state)
}

/// Closes the connection after the response: who asks here proves nothing, and needs no place until the next time.
pub(super) async fn close_after(request: Request, next: Next) -> Response {
    let is_http1 = request.version() < Version::HTTP_2;
    let mut response = next.run(request).await;
    if is_http1 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
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
    let (code, text) = match is_grpc(request.headers()) {
        true => (Code::Unimplemented, format!("unknown rpc {path}")),
        false => (Code::NotFound, format!("nothing is served at {path}")),
    };
    refuse(request.headers(), &Error::new(code, "UNKNOWN_PATH", text).with("path", path).into())
}

/// Refuses requests by foreign names, and from pages of a browser that are not ours.
pub(super) async fn check_names(
    State(names): State<Arc<AllowedNames>>,
    request: Request,
    next: Next,
) -> Response {
    match names.check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            let error = Error::new(Code::PermissionDenied, "NAME_NOT_ALLOWED", refusal(error));
            refuse(request.headers(), &error.into())
        }
    }
}

/// Tells browsers what to refuse. Programs that speak gRPC are none.
pub(super) async fn protect(
    State(hsts): State<Option<HeaderValue>>,
    request: Request,
    next: Next,
) -> Response {
    let of_program = is_grpc(request.headers());
    let mut response = next.run(request).await;
    if !of_program {
        inbound::browser::protect(response.headers_mut(), hsts.as_ref());
    }
    response
}

fn refusal(error: NameError) -> String {
    format!("{error}; see --allowed-host")
}

/// Reads what is left of a request's body before an answer that did not wait for it: clients that are still writing may throw the
/// answer away, or find the connection closed. Those of gRPC do not, and those who ask over HTTP/1 whether to go on need not.
pub(super) async fn hear_out(request: Request, next: Next) -> Response {
    let is_http1 = request.version() < Version::HTTP_2;
    let asks = is_http1 && request.headers().contains_key(header::EXPECT);
    if asks || is_grpc(request.headers()) || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let (body, mut rest) = LentBody::new(body);
    let response = next.run(Request::from_parts(head, Body::new(body))).await;
    // Who is refused because there is too much to do must not make more of it. Over HTTP/1 a connection may be too many.
    let is_crowded = match response.status() {
        StatusCode::SERVICE_UNAVAILABLE => true,
        StatusCode::TOO_MANY_REQUESTS => is_http1,
        _ => false,
    };
    if !is_crowded && let Ok(mut rest) = rest.try_recv() {
        // Of one that is longer than anybody should send, the answer may be lost.
        let _: bool = inbound::linger(&mut rest).await;
    }
    response
}

/// The JSON Schema of resource files. It tells nothing that the source code does not.
async fn file_schema() -> Response {
    static SCHEMA: LazyLock<String> = LazyLock::new(|| schema::json_schema::document().to_string());
    ([(header::CONTENT_TYPE, "application/schema+json")], SCHEMA.as_str()).into_response()
}

async fn ready(State(state): State<HttpState>) -> Response {
    let reason = if state.drain.is_cancelled() {
        "draining"
    } else if !state.database.within(READY) {
        "the newest changes cannot be read from the database"
    } else {
        return "ready\n".into_response();
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
}

async fn metrics(State(state): State<HttpState>) -> Response {
    let snapshot = state.snapshots.borrow().clone();
    let size = |kind: StreamType| count(snapshot.items[kind].len());
    let known = *state.store.revisions().borrow();
    let gauge = |name, help, value| Gauge { name, help, value };
    let (authenticated, strangers) = (state.connections.authenticated(), state.connections.unauthenticated());
    let gauges = [
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
        gauge(
            "trunkline_control_edges_connected",
            "Edges connected to this replica.",
            i64::try_from(state.fleet.connected_here()).unwrap_or(i64::MAX),
        ),
        gauge(
            "trunkline_control_streams_admitted",
            "Edges that are being brought up to date.",
            count(state.admission.admitted()),
        ),
        gauge(
            "trunkline_control_streams_waiting",
            "Edges that wait for others to be brought up to date.",
            count(state.admission.waiting()),
        ),
        gauge("trunkline_control_upstreams", "Upstreams published to edges.", size(StreamType::Upstream)),
        gauge("trunkline_control_tools", "Tools published to edges.", size(StreamType::Tool)),
        gauge("trunkline_control_servers", "Virtual servers published to edges.", size(StreamType::Server)),
        gauge("trunkline_control_tokens", "Tokens published to edges.", size(StreamType::Token)),
        gauge(
            "trunkline_control_tokens_expiring",
            "Tokens that end within seven days.",
            count(expiring_tokens(&snapshot)),
        ),
        gauge(
            "trunkline_control_too_large",
            "Resources that are too large to be sent to edges.",
            count(too_large(&snapshot)),
        ),
        gauge(
            "trunkline_control_tunnels",
            "Open tunnels of upstreams to this replica.",
            count(state.tunnels.count()),
        ),
        gauge(
            "trunkline_control_database_fresh",
            "1 while the database responds.",
            i64::from(state.database.within(READY)),
        ),
        gauge(
            "trunkline_control_connections",
            "Connections that are open.",
            count(authenticated + strangers),
        ),
        gauge(
            "trunkline_control_connections_unauthenticated",
            "Connections that are open and have not authenticated.",
            count(strangers),
        ),
        gauge(
            "trunkline_control_approvals_pending",
            "Calls that wait until somebody approves them.",
            state.approvals.pending(),
        ),
        gauge("trunkline_control_body_memory_bytes", "Bytes of request bodies.", count(state.bodies.used())),
    ];
    let text = render(&gauges, &counters(&state));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn counters(state: &HttpState) -> Vec<Counter> {
    let enrolled = |(outcome, count): (&'static str, u64)| (Some(("outcome", outcome)), count);
    let outcomes = |counted: Vec<(&'static str, u64)>| {
        counted.into_iter().map(|(outcome, count)| (Some(("outcome", outcome)), count)).collect()
    };
    let closed = |reason: CloseReason| (Some(("reason", reason.as_str())), state.connections.closed(reason));
    vec![
        Counter {
            name: "trunkline_control_connections_closed_total",
            help: "Connections closed by this side before their time, by reason.",
            values: CloseReason::ALL.map(closed).into(),
        },
        Counter {
            name: "trunkline_control_body_memory_refused_total",
            help: "Request bodies refused because too much memory was in use for bodies.",
            values: vec![(None, state.bodies.refused())],
        },
        Counter {
            name: "trunkline_control_tunnel_floods_total",
            help: "Tunnels closed because the upstream sent too many frames without data.",
            values: vec![(None, state.tunnels.floods())],
        },
        Counter {
            name: "trunkline_control_enrollments_total",
            help: "Requests of edges to enrol that this replica answered, by outcome.",
            values: state.enrollments.read().map(enrolled).into(),
        },
        Counter {
            name: "trunkline_control_edge_statements_total",
            help: "Statements to the database about edges that are connected: enrolments looked up, and their state written.",
            values: vec![
                (Some(("purpose", "lookup")), state.fleet.statements().lookups()),
                (Some(("purpose", "write")), state.fleet.statements().writes()),
            ],
        },
        Counter {
            name: "trunkline_control_usage_records_set_aside_total",
            help: "Usage records of edges that cannot be counted.",
            values: vec![(None, state.usage.set_aside())],
        },
        Counter {
            name: "trunkline_control_audit_dropped_total",
            help: "Audit records that could not be written.",
            values: vec![(None, state.store.audit_health().dropped())],
        },
        Counter {
            name: "trunkline_control_audit_records_set_aside_total",
            help: "Audit records of edges that cannot be right.",
            values: vec![(None, state.audit.set_aside())],
        },
        Counter {
            name: "trunkline_control_approvals_total",
            help: "What became of approvals at this replica, by outcome.",
            values: outcomes(state.approvals.events()),
        },
        Counter {
            name: "trunkline_control_approval_webhooks_total",
            help: "Webhooks about approvals that this replica sent or was sent, by outcome.",
            values: outcomes(state.approvals.webhooks()),
        },
    ]
}

fn too_large(snapshot: &Snapshot) -> usize {
    snapshot.items.values().flat_map(|items| items.values()).filter(|item| item.is_too_large()).count()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
