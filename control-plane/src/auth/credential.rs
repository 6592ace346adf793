//! The credential of an edge: a short-lived JWT, signed by us, for us.
//!
//! It must not know the table of edges: the caller checks that the enrolment is still the present one.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::keys::{KeyError, Signer};
use crate::clock;

const AUDIENCE: &str = "trunkline-edges";

/// The lifetime of a credential. Edges renew it when half of that is over, so that they come back by themselves
/// after an outage of days; that the enrolment has not ended is checked every time, whatever its credential says.
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
    /// The id of the enrolment. An edge that enrolled again under its id has another one. Credentials of earlier builds
    /// have the time of enrolment here, under another name.
    #[serde(alias = "enrolled", deserialize_with = "id_or_time")]
    pub enrollment: String,
}

fn id_or_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum IdOrTime {
        Id(String),
        Time(i64),
    }
    Ok(match IdOrTime::deserialize(deserializer)? {
        IdOrTime::Id(id) => id,
        IdOrTime::Time(time) => time.to_string(),
    })
}

impl EdgeCredentials {
    /// With the keys of this signer.
    pub fn new(signer: Arc<Signer>) -> Self {
        Self { signer }
    }

    /// A credential for one edge, and when it ends, in microseconds.
    pub fn issue(&self, edge: &str, enrollment: &str) -> Result<(String, i64), KeyError> {
        let now = clock::now_us();
        let end = now + clock::duration_us(LIFETIME);
        let claims = EdgeClaims {
            iss: self.signer.issuer().to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: edge.to_owned(),
            iat: now / 1_000_000,
            exp: end / 1_000_000,
            enrollment: enrollment.to_owned(),
        };
        Ok((self.signer.sign(&claims)?.0, end))
    }

    /// Verifies a credential, and returns its claims.
    pub fn verify(&self, credential: &str) -> Result<EdgeClaims, KeyError> {
        self.signer.verify(credential, AUDIENCE)
    }

    /// Verifies a credential except for its end. It permits nothing by itself: it shows which enrolment its holder had.
    pub fn verify_ended(&self, credential: &str) -> Result<EdgeClaims, KeyError> {
        self.signer.verify_ended(credential, AUDIENCE)
    }
}
