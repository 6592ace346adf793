//! What a modern client sends back, in `requestState`, with a call that a rule held back: what it waits for, or that it was approved and
//! has begun. It stands before the state that the call has otherwise.
//!
//! It must not know how calls are approved.

use super::HandleOwner;
use super::seal::{self, HandleBinding, Purpose, SealError};
use crate::error::PendingApproval;
use crate::snapshot::Trust;

/// SHA-256 of what an approval is bound to.
pub type CallDigest = [u8; 32];

/// How long a client may take to go on with a call that has begun, in seconds.
const LIFETIME: u64 = 3_600;
/// Between the two states. Sealed text does not have it.
const SEPARATOR: char = '.';
const WAITS: &[u8] = b"waits";
const BEGUN: &[u8] = b"begun";

/// A call that a rule held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldState {
    /// It waits for this approval.
    Waits(PendingApproval),
    /// It was approved, and has begun.
    Begun(BegunCall),
}

/// A call that was approved and has begun. Its client goes on with it once: what is sent twice would be made twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BegunCall {
    /// What it was approved as.
    pub digest: CallDigest,
    /// When it is over for its client, in seconds since the Unix epoch.
    pub(super) expires: u64,
    /// Unique among all.
    pub(super) number: [u8; 16],
}

impl BegunCall {
    /// One that was approved as this.
    pub fn new(digest: CallDigest, now: u64) -> Self {
        Self { digest, expires: now.saturating_add(LIFETIME), number: *uuid::Uuid::new_v4().as_bytes() }
    }
}

impl HeldState {
    /// Returns whether a raw `requestState` may be one.
    pub fn may_be(raw: &str) -> bool {
        raw.contains(SEPARATOR)
    }

    /// Seals it before `state`, which it is bound to, as it is to the owner and the exposed name of the tool.
    pub fn seal(
        &self,
        trust: &Trust,
        owner: HandleOwner<'_>,
        exposed: &str,
        state: &str,
    ) -> Result<String, SealError> {
        let content = match self {
            Self::Begun(BegunCall { digest, expires, number }) => {
                seal::join([BEGUN, digest, &expires.to_be_bytes(), number])
            }
            Self::Waits(PendingApproval { name, expires, url }) => {
                seal::join([WAITS, name.as_bytes(), expires.as_bytes(), url.as_bytes()])
            }
        };
        let sealed = seal::seal(trust, binding(owner, &[exposed, state]), &content)?;
        Ok(format!("{sealed}{SEPARATOR}{state}"))
    }

    /// Opens a text that was sealed for this owner and this tool, unless it is too old. Returns the state after it, too.
    pub fn open<'t>(
        trust: &Trust,
        owner: HandleOwner<'_>,
        exposed: &str,
        text: &'t str,
        now: u64,
    ) -> Option<(Self, &'t str)> {
        let (sealed, state) = text.split_once(SEPARATOR)?;
        let content = seal::open(trust, binding(owner, &[exposed, state]), sealed)?;
        let [kind, first, second, third] = seal::split(&content)?;
        if kind == WAITS {
            let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Box::<str>::from);
            let approval = PendingApproval { name: text(first)?, expires: text(second)?, url: text(third)? };
            return Some((Self::Waits(approval), state));
        }
        let (digest, number) = (first.try_into().ok()?, third.try_into().ok()?);
        let begun = BegunCall { digest, expires: u64::from_be_bytes(second.try_into().ok()?), number };
        (kind == BEGUN && now < begun.expires).then_some((Self::Begun(begun), state))
    }
}

fn binding<'a>(owner: HandleOwner<'a>, about: &'a [&'a str]) -> HandleBinding<'a> {
    HandleBinding { purpose: Purpose::HeldCall, server: owner.server, principal: owner.principal, about }
}

#[cfg(test)]
mod tests {
    use super::super::seal::tests::trust;
    use super::*;

    const OWNER: HandleOwner<'static> = HandleOwner { server: "s", principal: "p" };

    fn states() -> [HeldState; 2] {
        let approval = PendingApproval { name: "approvals/a".into(), expires: "2026".into(), url: "".into() };
        [HeldState::Waits(approval), HeldState::Begun(BegunCall::new([7; 32], 100))]
    }

    #[test]
    fn it_opens_for_its_owner_its_tool_and_the_state_that_it_stands_before() {
        let trust = trust(&[1]);
        for (held, state) in states().into_iter().zip(["", "upstream-state"]) {
            let text = held.seal(&trust, OWNER, "x", state).unwrap();
            assert!(HeldState::may_be(&text) && !HeldState::may_be(state));
            assert_eq!(HeldState::open(&trust, OWNER, "x", &text, 100), Some((held, state)));
            assert_eq!(HeldState::open(&trust, OWNER, "y", &text, 100), None);
            assert_eq!(HeldState::open(&trust, OWNER, "x", &format!("{text}2"), 100), None);
            for other in [HandleOwner { server: "t", ..OWNER }, HandleOwner { principal: "q", ..OWNER }] {
                assert_eq!(HeldState::open(&trust, other, "x", &text, 100), None);
            }
            assert_eq!(HeldState::open(&trust, OWNER, "x", state, 100), None);
        }
    }

    #[test]
    fn a_call_that_has_begun_is_gone_on_with_in_time() {
        let trust = trust(&[1]);
        let [waits, begun] = states().map(|held| held.seal(&trust, OWNER, "x", "s").unwrap());
        let opens = |text: &str, now| HeldState::open(&trust, OWNER, "x", text, now).is_some();
        assert!(opens(&begun, 99 + LIFETIME) && !opens(&begun, 100 + LIFETIME));
        assert!(opens(&waits, 100 + 2 * LIFETIME), "it says nothing but what is waited for");
    }
}
