//! Who is calling: every rpc needs the administrator's bearer, but for the few that say otherwise here. It is
//! checked before anything else, so that a stranger cannot learn what exists.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::AUTHORIZATION;
use tonic::Code;

use super::json;
use crate::auth::admin::AdminToken;
use crate::error::Error;

/// Anyone may call these.
const PUBLIC: [&str; 3] =
    ["/grpc.health.v1.Health/", "/grpc.reflection.", "/trunkline.discovery.v1.EnrollmentService/EnrollEdge"];
/// Edges call these, with credentials of their own that the services themselves check.
const EDGES: [&str; 3] = [
    "/trunkline.discovery.v1.DiscoveryService/",
    "/trunkline.discovery.v1.EnrollmentService/RenewEdgeCredential",
    "/trunkline.telemetry.v1.UsageService/ReportUsage",
];

/// A layer for `axum::middleware::from_fn_with_state`: lets through who may call what they call.
pub async fn admit(State(admin): State<Arc<AdminToken>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_open = PUBLIC.iter().chain(&EDGES).any(|open| path.starts_with(open));
    if is_open || bearer(&request).is_some_and(|bearer| admin.matches(bearer)) {
        return next.run(request).await;
    }
    let text = "this needs `authorization: Bearer` with the administrator's token";
    json::refuse(request.headers(), &Error::new(Code::Unauthenticated, "ADMIN_REQUIRED", text).into())
}

fn bearer(request: &Request) -> Option<&str> {
    let (scheme, bearer) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(bearer.trim())
}
