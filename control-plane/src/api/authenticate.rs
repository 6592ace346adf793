//! The authenticator in front of every rpc, over gRPC and JSON alike: finds the [`Caller`] by the credential that the
//! contract declares for the rpc. It runs before anything else, so that a stranger cannot learn what exists.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::AUTHORIZATION;
use tonic::Code;

use super::json;
use super::permissions::{Needs, Permissions, Undeclared};
use crate::auth::admin::AdminToken;
use crate::auth::caller::Caller;
use crate::discovery::authenticate::EdgeAuthenticator;
use crate::domain::reflect;
use crate::error::Error;

/// The credentials that the authenticator accepts, and the rpcs that take each.
#[derive(Debug)]
pub struct Authenticator {
    permissions: Permissions,
    admin: AdminToken,
    edges: EdgeAuthenticator,
}

impl Authenticator {
    /// Reads the permissions that the contract declares. Fails where an rpc declares none.
    pub fn new(admin: AdminToken, edges: EdgeAuthenticator) -> Result<Self, Undeclared> {
        Ok(Self { permissions: Permissions::read(reflect::pool())?, admin, edges })
    }

    async fn caller(&self, path: &str, bearer: Option<&str>) -> Result<Caller, Error> {
        match self.permissions.needs(path) {
            Needs::Nothing => Ok(Caller::Anonymous),
            Needs::Edge => self.edges.admit(bearer).await.map(Caller::Edge),
            Needs::Administrator if bearer.is_some_and(|bearer| self.admin.matches(bearer)) => {
                Ok(Caller::Administrator)
            }
            Needs::Administrator => {
                let text = "the administrator's token is required: send it as `authorization: Bearer`";
                Err(Error::new(Code::Unauthenticated, "ADMIN_REQUIRED", text))
            }
        }
    }
}

/// A layer for `axum::middleware::from_fn_with_state`: passes on the calls of those who may make them.
pub async fn admit(
    State(authenticator): State<Arc<Authenticator>>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let bearer = bearer(&request).map(str::to_owned);
    match authenticator.caller(&path, bearer.as_deref()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => json::refuse(request.headers(), &error.into()),
    }
}

fn bearer(request: &Request) -> Option<&str> {
    let (scheme, bearer) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(bearer.trim())
}
