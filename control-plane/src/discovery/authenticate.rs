//! Authenticates edges: verifies the credential of a caller, and that its edge still exists.
//!
//! It must not know the rpcs that are called.

use std::sync::Arc;

use tonic::{Code, Request};

use super::fleet::Fleet;
use crate::auth::caller::Caller;
use crate::auth::credential::{EdgeClaims, EdgeCredentials};
use crate::error::Error;

const NEEDED: &str = "an edge's credential is required: send it as `authorization: Bearer`";

/// Authenticates edges by their credentials.
#[derive(Debug, Clone)]
pub struct EdgeAuthenticator {
    credentials: EdgeCredentials,
    fleet: Arc<Fleet>,
}

impl EdgeAuthenticator {
    /// Creates an authenticator of the edges of this fleet.
    pub fn new(credentials: EdgeCredentials, fleet: Arc<Fleet>) -> Self {
        Self { credentials, fleet }
    }

    /// Verifies the credential of a caller. Fails where its edge no longer exists.
    pub async fn admit(&self, bearer: Option<&str>) -> Result<EdgeClaims, Error> {
        let bearer = bearer.ok_or_else(|| refused("EDGE_CREDENTIAL_REQUIRED", NEEDED))?;
        let claims = self.credentials.verify(bearer).map_err(|error| {
            let text = format!("the edge's credential is {error}; renew it or enrol again");
            refused("EDGE_CREDENTIAL_INVALID", text)
        })?;
        if self.fleet.knows(&claims.sub, claims.enrolled).await? {
            return Ok(claims);
        }
        let text = format!("edge `{}` was deleted; enrol again", claims.sub);
        Err(refused("EDGE_UNKNOWN", text).with("edge", claims.sub))
    }
}

/// Reads the edge that the authentication layer found, or refuses the request.
pub(super) fn edge<T>(request: &Request<T>) -> Result<EdgeClaims, Error> {
    Caller::edge(request).ok_or_else(|| refused("EDGE_CREDENTIAL_REQUIRED", NEEDED))
}

fn refused(reason: &'static str, text: impl Into<String>) -> Error {
    Error::new(Code::Unauthenticated, reason, text)
}
