//! The signature and the claims of a bearer. It must not know tokens: the bearer does not say what it may do.

use jsonwebtoken::{Validation, decode, decode_header};
use serde::de::DeserializeOwned;

use crate::snapshot::Trust;

/// The longest bearer that is looked at.
const MAX_BEARER: usize = 4 << 10;

/// The claims of a bearer.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Claims {
    /// The uid of the token.
    pub(super) jti: String,
    /// The time of its end, in seconds since the Unix epoch.
    pub(super) exp: Option<u64>,
}

/// Verifies a bearer that a control plane signed for this audience. Returns its claims.
pub(super) fn verify(trust: &Trust, bearer: &str) -> Option<Claims> {
    claims(trust, bearer, &trust.audience, &["iss", "aud"])
}

/// Verifies the credential of a tunnel. Returns the uid of its upstream.
pub fn tunnel(trust: &Trust, credential: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Claims {
        sub: String,
    }
    let required = ["iss", "aud", "exp", "sub"];
    claims::<Claims>(trust, credential, tunnel::AUDIENCE, &required).map(|claims| claims.sub)
}

fn claims<C: DeserializeOwned>(trust: &Trust, bearer: &str, audience: &str, required: &[&str]) -> Option<C> {
    if bearer.len() > MAX_BEARER {
        return None;
    }
    let key = trust.keys.get(decode_header(bearer).ok()?.kid?.as_str())?;
    let mut validation = Validation::new(key.algorithm);
    validation.set_issuer(&[&trust.issuer]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(required);
    decode::<C>(bearer, &key.key, &validation).ok().map(|verified| verified.claims)
}
