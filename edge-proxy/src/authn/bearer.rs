//! The signature and the claims of a bearer. It must not know tokens: what a bearer may do is not written in it.

use jsonwebtoken::{Validation, decode, decode_header};
use serde::de::DeserializeOwned;

use crate::snapshot::Trust;

/// Longer than any bearer of ours.
const MAX_BEARER: usize = 4 << 10;

/// What of a bearer counts.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Claims {
    /// The uid of the token.
    pub(super) jti: String,
    /// When it ends, in seconds since the Unix epoch.
    pub(super) exp: Option<u64>,
}

/// The claims of a bearer that one of our control planes signed for us.
pub(super) fn verify(trust: &Trust, bearer: &str) -> Option<Claims> {
    claims(trust, bearer, &trust.audience, &["iss", "aud"])
}

/// The uid of the upstream whose tunnels a credential opens, unless it has ended.
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
