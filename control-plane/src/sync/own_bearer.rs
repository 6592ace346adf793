//! Tells that an upstream is this gateway itself: its credential is a bearer that was issued here.
//!
//! A virtual server that selects what is imported of itself grows by its whole catalogue with every import, for ever. It must
//! not know how upstreams are asked.

use trunkline::registry::v1::credential::Kind;
use trunkline::registry::v1::{Credential, UpstreamState};

use crate::auth::keys::Signer;
use crate::importers::Failure;

/// Refuses a credential, its secrets in the clear, that only an edge of this gateway would accept.
pub(super) fn refuse(signer: &Signer, credential: &Credential) -> Result<(), Failure> {
    match bearers(credential).find_map(|bearer| signer.token_of(bearer)) {
        None => Ok(()),
        Some(token) => Err(Failure::new(
            UpstreamState::Unauthorized,
            format!(
                "its credential is the bearer of {token} of this gateway, which cannot be an upstream of itself; select the \
                 same members in another server instead"
            ),
        )),
    }
}

/// What of a credential an edge would take for a bearer.
fn bearers(credential: &Credential) -> impl Iterator<Item = &str> {
    let (bearer, headers) = match &credential.kind {
        Some(Kind::Bearer(bearer)) => (Some(bearer.token.as_str()), None),
        Some(Kind::Headers(headers)) => (None, Some(&headers.headers)),
        _ => (None, None),
    };
    let authorization =
        headers.into_iter().flatten().filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    bearer
        .into_iter()
        .chain(authorization.filter_map(|(_, value)| value.split_once(' ')).map(|(_, bearer)| bearer.trim()))
}
