//! Signatures and claims of credentials. It must not know resources: a credential does not say what it may do.

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::de::DeserializeOwned;

use super::{Principal, PrincipalKind};
use crate::snapshot::Trust;

/// The longest credential that is looked at.
const MAX_LENGTH: usize = 4 << 10;

/// Verifies a bearer that a control plane signed for this audience, and returns its principal. Its time is left to
/// `policy`, which checks it now and as long as a call runs.
pub(super) fn verify_bearer(trust: &Trust, bearer: &str) -> Option<Principal> {
    #[derive(serde::Deserialize)]
    struct Claims {
        sub: Box<str>,
        jti: Box<str>,
        exp: Option<u64>,
    }
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[&trust.issuer.audience]);
    validation.set_required_spec_claims(&["iss", "aud", "sub"]);
    validation.validate_exp = false;
    let claims: Claims = verified_claims(trust, bearer, validation)?;
    Some(Principal::new(PrincipalKind::Token, claims.jti, claims.sub, claims.exp))
}

/// Verifies the credential of a tunnel, its time included. Returns the uid of its upstream.
pub fn verify_tunnel_credential(trust: &Trust, credential: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Claims {
        sub: String,
    }
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[tunnel::AUDIENCE]);
    validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
    verified_claims::<Claims>(trust, credential, validation).map(|claims| claims.sub)
}

/// Checks the signature, the issuer, and what else `validation` demands.
fn verified_claims<C: DeserializeOwned>(
    trust: &Trust,
    credential: &str,
    mut validation: Validation,
) -> Option<C> {
    if credential.len() > MAX_LENGTH {
        return None;
    }
    let key = trust.issuer.keys.get(decode_header(credential).ok()?.kid?.as_str())?;
    validation.algorithms = vec![key.algorithm];
    validation.set_issuer(&[&trust.issuer.name]);
    decode::<C>(credential, &key.key, &validation).ok().map(|verified| verified.claims)
}
