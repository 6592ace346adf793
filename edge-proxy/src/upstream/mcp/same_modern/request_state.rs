//! Seals the `requestState` of a modern upstream, so that only its caller can send it back, for the same call with the same arguments: what
//! the upstream keeps in it was decided about by those.
//!
//! With a credential that callers share, an upstream cannot tell one caller's state from another's.

use mcp::method::Method;

use crate::os::clock::now;
use crate::session::HandleOwner;
use crate::session::seal::{self, HandleBinding, Purpose, SealError};
use crate::snapshot::Trust;
use crate::upstream::mcp::arguments::arguments_digest;

/// How long a client may take to answer, in seconds.
const LIFETIME: u64 = 3_600;

/// The call that a state is bound to; it opens for no other.
#[derive(Debug, Clone, Copy)]
pub(super) struct StateBinding<'a> {
    pub(super) owner: HandleOwner<'a>,
    pub(super) method: Method,
    /// The exposed name or URI that the client called.
    pub(super) exposed: &'a str,
    /// The upstream, and the name or URI that it knows that by.
    pub(super) leads_to: [&'a str; 2],
    /// Its raw arguments.
    pub(super) arguments: Option<&'a str>,
}

/// Seals a raw state for the client.
pub(super) fn seal(trust: &Trust, call: StateBinding<'_>, state: &str) -> Result<String, SealError> {
    let mut content = (now() + LIFETIME).to_be_bytes().to_vec();
    content.extend_from_slice(state.as_bytes());
    call.with(|binding| seal::seal(trust, binding, &content))
}

/// Opens a sealed state; returns the upstream's own, raw.
pub(super) fn open(trust: &Trust, call: StateBinding<'_>, text: &str) -> Option<String> {
    let content = call.with(|binding| seal::open(trust, binding, text))?;
    let (expires, state) = content.split_first_chunk::<8>()?;
    (now() < u64::from_be_bytes(*expires)).then_some(())?;
    String::from_utf8(state.to_vec()).ok()
}

impl StateBinding<'_> {
    fn with<T>(self, use_it: impl FnOnce(HandleBinding<'_>) -> T) -> T {
        let HandleOwner { server, principal } = self.owner;
        let arguments = arguments_digest(self.arguments);
        let [upstream, original] = self.leads_to;
        let about = [self.method.as_str(), self.exposed, upstream, original, &*arguments];
        use_it(HandleBinding { purpose: Purpose::RequestState, server, principal, about: &about })
    }
}
