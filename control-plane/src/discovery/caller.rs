//! Which edge is calling: its credential, and whether it still exists.
//!
//! It must not know what it calls for.

use std::sync::Arc;

use tonic::{Code, Request};

use super::fleet::Fleet;
use crate::auth::credential::{EdgeClaims, EdgeCredentials};
use crate::error::Error;

/// Lets edges in that are enrolled.
#[derive(Debug, Clone)]
pub struct EdgeGate {
    credentials: EdgeCredentials,
    fleet: Arc<Fleet>,
}

impl EdgeGate {
    /// A gate to this fleet.
    pub fn new(credentials: EdgeCredentials, fleet: Arc<Fleet>) -> Self {
        Self { credentials, fleet }
    }

    /// What the credential of the caller says, where that edge still exists.
    pub async fn admit<T>(&self, request: &Request<T>) -> Result<EdgeClaims, Error> {
        let text = "send `authorization: Bearer` with an edge's credential";
        let bearer = bearer(request).ok_or_else(|| refused("EDGE_CREDENTIAL_REQUIRED", text))?;
        let claims = self.credentials.verify(bearer).map_err(|error| {
            let text = format!("the edge's credential is {error}: renew it, or enrol again");
            refused("EDGE_CREDENTIAL_INVALID", text)
        })?;
        if self.fleet.knows(&claims.sub, claims.enrolled).await? {
            return Ok(claims);
        }
        let text = format!("edge `{}` was deleted: enrol again", claims.sub);
        Err(refused("EDGE_UNKNOWN", text).with("edge", claims.sub))
    }
}

fn bearer<T>(request: &Request<T>) -> Option<&str> {
    let (scheme, bearer) = request.metadata().get("authorization")?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(bearer.trim())
}

fn refused(reason: &'static str, text: impl Into<String>) -> Error {
    Error::new(Code::Unauthenticated, reason, text)
}
