//! The credential of a tunnel: a JWT, signed by us, that opens tunnels of one upstream. Edges verify it with the public keys
//! that they hold anyway.
//!
//! It must not know upstreams: the endpoint that accepts a tunnel checks that the upstream still exists.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::{KeyError, Signer};
use crate::clock;

/// The lifetime of a credential. Whoever holds tunnels renews it when half of that is over, so that they come back by themselves
/// while no control plane answers.
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// Issues and verifies the credentials of tunnels.
#[derive(Clone, Debug)]
pub struct TunnelCredentials {
    signer: Arc<Signer>,
}

/// The claims of a credential.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// The uid of the upstream: another one of the same name is another one.
    sub: String,
    iat: i64,
    exp: i64,
}

impl TunnelCredentials {
    /// With the keys of this signer.
    pub fn new(signer: Arc<Signer>) -> Self {
        Self { signer }
    }

    /// A credential for the upstream with this uid, and when it ends, in microseconds.
    pub fn issue(&self, uid: &str) -> Result<(String, i64), KeyError> {
        let now = clock::now_us();
        let end = now + clock::duration_us(LIFETIME);
        let claims = Claims {
            iss: self.signer.issuer().to_owned(),
            aud: tunnel::AUDIENCE.to_owned(),
            sub: uid.to_owned(),
            iat: now / 1_000_000,
            exp: end / 1_000_000,
        };
        Ok((self.signer.sign(&claims)?.0, end))
    }

    /// The uid of the upstream whose tunnels a credential opens, where it is ours and has not ended.
    pub fn verify(&self, credential: &str) -> Result<String, KeyError> {
        self.signer.verify::<Claims>(credential, tunnel::AUDIENCE).map(|claims| claims.sub)
    }
}
