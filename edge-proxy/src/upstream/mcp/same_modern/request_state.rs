//! Seals the `requestState` of a modern upstream, so that only its caller can send it back, for the same call.
//!
//! With a credential that callers share, an upstream cannot tell one caller's state from another's.

use mcp::method::Method;

use crate::os::clock::now;
use crate::session::HandleOwner;
use crate::session::seal::{self, HandleBinding, Purpose, SealError};
use crate::snapshot::Trust;

/// How long a client may take to answer, in seconds.
const LIFETIME: u64 = 3_600;

/// Seals a raw state for the client.
pub(super) fn seal(
    trust: &Trust,
    owner: HandleOwner<'_>,
    method: Method,
    exposed: &str,
    state: &str,
) -> Result<String, SealError> {
    let mut content = (now() + LIFETIME).to_be_bytes().to_vec();
    content.extend_from_slice(state.as_bytes());
    seal::seal(trust, binding(owner, &[method.as_str(), exposed]), &content)
}

/// Opens a sealed state; returns the upstream's own, raw.
pub(super) fn open(
    trust: &Trust,
    owner: HandleOwner<'_>,
    method: Method,
    exposed: &str,
    text: &str,
) -> Option<String> {
    let content = seal::open(trust, binding(owner, &[method.as_str(), exposed]), text)?;
    let (expires, state) = content.split_first_chunk::<8>()?;
    (now() < u64::from_be_bytes(*expires)).then_some(())?;
    String::from_utf8(state.to_vec()).ok()
}

fn binding<'a>(owner: HandleOwner<'a>, about: &'a [&'a str]) -> HandleBinding<'a> {
    HandleBinding { purpose: Purpose::RequestState, server: owner.server, principal: owner.principal, about }
}
