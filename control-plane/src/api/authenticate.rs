//! The authenticator in front of every rpc, over gRPC and JSON alike: finds the [`Caller`] by the credential that the
//! contract declares for the rpc. It runs before anything else, so that a stranger cannot learn what exists.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::AUTHORIZATION;
use inbound::{ConnectionHandle, ConnectionHolder, Framing, Guarded, PublicRequest};
use tonic::Code;

use super::bodies::{RequestBodies, too_many_connections, too_many_public_requests};
use super::json;
use super::permissions::{Needs, Permissions, Undeclared};
use crate::auth::admin::AdminToken;
use crate::auth::caller::Caller;
use crate::auth::rights::Rights;
use crate::discovery::authenticate::EdgeAuthenticator;
use crate::domain::reflect;
use crate::error::Error;

/// The credentials that the authenticator accepts, and the rpcs that take each.
#[derive(Debug)]
pub struct Authenticator {
    permissions: Permissions,
    admin: AdminToken,
    edges: EdgeAuthenticator,
    bodies: RequestBodies,
}

impl Authenticator {
    /// Reads the permissions that the contract declares. Fails where an rpc declares none.
    pub fn new(
        admin: AdminToken,
        edges: EdgeAuthenticator,
        bodies: RequestBodies,
    ) -> Result<Self, Undeclared> {
        Ok(Self { permissions: Permissions::read(reflect::pool())?, admin, edges, bodies })
    }

    fn framing(&self, path: &str) -> Framing {
        if self.permissions.is_client_streaming(path) { Framing::GrpcMessages } else { Framing::Whole }
    }

    async fn caller(&self, path: &str, bearer: Option<&str>) -> Result<Caller, Error> {
        match self.permissions.needs(path) {
            Needs::Nothing => Ok(Caller::Anonymous),
            Needs::Edge => self.edges.admit(bearer).await.map(Caller::Edge),
            Needs::Principal | Needs::Permission(_) if bearer.is_some_and(|bearer| self.admin.matches(bearer)) => {
                Ok(Caller::Principal(Rights::administrator()))
            }
            Needs::Principal | Needs::Permission(_) => {
                Err(not_the_administrator(bearer.is_some_and(|bearer| !bearer.is_empty())))
            }
        }
    }
}

fn not_the_administrator(has_bearer: bool) -> Error {
    let (reason, text) = match has_bearer {
        true => ("ADMIN_INVALID", "the bearer is not the administrator's token of this control plane"),
        false => {
            ("ADMIN_REQUIRED", "the administrator's token is required: send it as `authorization: Bearer`")
        }
    };
    Error::new(Code::Unauthenticated, reason, text)
}

/// A layer for `axum::middleware::from_fn_with_state`: passes on the calls of those who may make them, with bounds on their
/// bodies. Of others nothing but the head counts.
pub async fn admit(
    State(authenticator): State<Arc<Authenticator>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let bearer = bearer(&request).map(str::to_owned);
    let admitted = authenticator.caller(&path, bearer.as_deref()).await;
    let admitted = admitted.and_then(|caller| Ok((begin(&request, &caller)?, caller)));
    match admitted {
        Ok((public_request, caller)) => {
            let framing = authenticator.framing(&path);
            let (mut request, _reservation) = authenticator.bodies.bound(request, &caller, framing);
            request.extensions_mut().insert(caller);
            let response = next.run(request).await;
            match public_request {
                // A stream is in progress until it has ended.
                Some(public_request) => response.map(|body| Body::new(Guarded::new(body, public_request))),
                None => response,
            }
        }
        Err(error) => json::refuse(request.headers(), &error.into()),
    }
}

/// Notes that the connection belongs to a caller who is known, or counts its requests.
fn begin(request: &Request, caller: &Caller) -> Result<Option<PublicRequest>, Error> {
    let Some(connection) = request.extensions().get::<ConnectionHandle>() else { return Ok(None) };
    if *caller == Caller::Anonymous {
        return connection.public_request().map(Some).ok_or_else(too_many_public_requests);
    }
    connection.set_authenticated(holder(caller)).map_err(too_many_connections)?;
    Ok(None)
}

/// Whom a connection counts for. Whatever other credentials hold, edges and people find one.
fn holder(caller: &Caller) -> ConnectionHolder<Option<&str>> {
    match caller {
        Caller::Edge(claims) => ConnectionHolder::kept(Some(&claims.sub)),
        Caller::Principal(_) | Caller::Anonymous => ConnectionHolder::kept(None),
    }
}

fn bearer(request: &Request) -> Option<&str> {
    let (scheme, bearer) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(bearer.trim())
}
