//! The credential of an edge: a short-lived JWT, signed by us, for us.
//!
//! It must not know the table of edges: the caller checks that the edge still exists.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::{KeyError, Signer};
use crate::clock;

const AUDIENCE: &str = "trunkline-edges";

/// The lifetime of a credential. Edges renew it when half of that is over, so that they come back by themselves
/// after an outage of days; that the edge still exists is checked every time, whatever its credential says.
pub const LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// Issues and verifies the credentials of edges.
#[derive(Clone, Debug)]
pub struct EdgeCredentials {
    signer: Arc<Signer>,
}

/// The claims of a valid credential.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct EdgeClaims {
    iss: String,
    aud: String,
    /// The edge's id.
    pub sub: String,
    iat: i64,
    exp: i64,
    /// The time of enrolment. An edge that was deleted and enrolled again under its id has another one.
    pub enrolled: i64,
}

impl EdgeCredentials {
    /// With the keys of this signer.
    pub fn new(signer: Arc<Signer>) -> Self {
        Self { signer }
    }

    /// A credential for one edge, and when it ends, in microseconds.
    pub fn issue(&self, edge: &str, enrolled: i64) -> Result<(String, i64), KeyError> {
        let now = clock::now_us();
        let end = now + clock::duration_us(LIFETIME);
        let claims = EdgeClaims {
            iss: self.signer.issuer().to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: edge.to_owned(),
            iat: now / 1_000_000,
            exp: end / 1_000_000,
            enrolled,
        };
        Ok((self.signer.sign(&claims)?.0, end))
    }

    /// Verifies a credential, and returns its claims.
    pub fn verify(&self, credential: &str) -> Result<EdgeClaims, KeyError> {
        self.signer.verify(credential, AUDIENCE)
    }
}
