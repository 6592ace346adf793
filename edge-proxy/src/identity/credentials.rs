//! Signatures and claims of credentials. It must not know resources: a credential does not say what it may do, but at most
//! which grants its principal had when it was signed.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::de::DeserializeOwned;

use super::{Principal, PrincipalKind};
use crate::snapshot::{BearerGrants, GrantPair, Trust};

/// The longest credential that is looked at: room for `MAX_PAIRS`.
const MAX_LENGTH: usize = 8 << 10;
/// Pairs of grants that a bearer may name.
const MAX_PAIRS: usize = 128;
/// The longest uid of a person, in bytes.
const MAX_UID: usize = 64;
/// The length of the id of a grant: 8 bytes in base64url.
const GID_LENGTH: usize = 11;

/// The claims of a bearer. The last three are those of people.
#[derive(serde::Deserialize)]
struct BearerClaims {
    sub: Box<str>,
    jti: Box<str>,
    exp: Option<u64>,
    uid: Option<Box<str>>,
    ep: Option<i64>,
    gr: Option<Vec<[Box<str>; 2]>>,
}

/// Verifies a bearer that a control plane signed for this audience, and returns its principal. Its time is left to
/// `policy`, which checks it now and as long as a call runs.
pub(super) fn verify_bearer(trust: &Trust, bearer: &str) -> Option<Principal> {
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[&trust.issuer.audience]);
    validation.set_required_spec_claims(&["iss", "aud", "sub"]);
    validation.validate_exp = false;
    let claims: BearerClaims = verified_claims(trust, bearer, validation)?;
    if is_person(&claims.sub) {
        return person(claims);
    }
    Some(Principal::new(PrincipalKind::Token, claims.jti, claims.sub, claims.exp))
}

fn is_person(name: &str) -> bool {
    name.starts_with("users/") || name.starts_with("serviceAccounts/")
}

/// Returns the user or service account of these claims, unless one of them is missing or not as it must be.
fn person(claims: BearerClaims) -> Option<Principal> {
    let BearerClaims { sub, jti: _, exp: Some(expires), uid: Some(uid), ep: Some(epoch), gr: Some(gr) } =
        claims
    else {
        return None;
    };
    let (_, id) = sub.split_once('/')?;
    let is_named = !id.is_empty() && !id.contains('/') && (1..=MAX_UID).contains(&uid.len());
    if !is_named || epoch < 0 || gr.len() > MAX_PAIRS {
        return None;
    }
    let pair = |[role, team]: [Box<str>; 2]| {
        (is_gid(&role) && (team.is_empty() || is_gid(&team))).then_some(GrantPair { role, team })
    };
    let pairs: Vec<GrantPair> = gr.into_iter().map(pair).collect::<Option<_>>()?;
    let grants = BearerGrants::new(uid.clone(), epoch, pairs);
    Some(Principal::new(PrincipalKind::Person(Arc::new(grants)), uid, sub, Some(expires)))
}

fn is_gid(text: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.len() == GID_LENGTH && text.bytes().all(is_base64url)
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
