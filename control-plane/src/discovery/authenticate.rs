//! Authenticates edges: verifies the credential of a caller, and that the enrolment it belongs to has not ended.
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

    /// Verifies the credential of a caller. Fails where its enrolment has ended.
    pub async fn admit(&self, bearer: Option<&str>) -> Result<EdgeClaims, Error> {
        let bearer = bearer.ok_or_else(|| refused("EDGE_CREDENTIAL_REQUIRED", NEEDED))?;
        let claims = self.credentials.verify(bearer).map_err(|error| {
            let text = format!("the edge's credential is {error}; renew it or enrol again");
            refused("EDGE_CREDENTIAL_INVALID", text)
        })?;
        if self.fleet.knows(&claims).await? {
            return Ok(claims);
        }
        Err(ended(&claims.sub))
    }
}

/// The error for an enrolment that has ended.
pub(super) fn ended(edge: &str) -> Error {
    let text = format!(
        "this enrolment of edge `{edge}` has ended: the edge was deleted, or enrolled again; enrol again"
    );
    refused("EDGE_UNKNOWN", text).with("edge", edge)
}

/// Reads the edge that the authentication layer found, or refuses the request.
pub(super) fn edge<T>(request: &Request<T>) -> Result<EdgeClaims, Error> {
    Caller::edge(request).ok_or_else(|| refused("EDGE_CREDENTIAL_REQUIRED", NEEDED))
}

fn refused(reason: &'static str, text: impl Into<String>) -> Error {
    Error::new(Code::Unauthenticated, reason, text)
}
