//! The signature and the claims of a bearer. It must not know tokens: what a bearer may do is not written in it.

use jsonwebtoken::{Validation, decode, decode_header};

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
    if bearer.len() > MAX_BEARER {
        return None;
    }
    let key = trust.keys.get(decode_header(bearer).ok()?.kid?.as_str())?;
    let mut validation = Validation::new(key.algorithm);
    validation.set_issuer(&[&trust.issuer]);
    validation.set_audience(&[&trust.audience]);
    validation.set_required_spec_claims(&["iss", "aud"]);
    decode::<Claims>(bearer, &key.key, &validation).ok().map(|verified| verified.claims)
}
