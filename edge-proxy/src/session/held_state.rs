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

/// A call that was approved and has begun. Its client goes on with each round once: what is sent twice would be made twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BegunCall {
    /// What it was approved as.
    pub digest: CallDigest,
    /// The approval that was used up for it: `approvals/{id}`.
    pub approval: Box<str>,
    /// The round of input that it goes on with next, beginning with 1.
    pub round: i64,
}

impl BegunCall {
    /// One that was approved as this, and begins.
    pub fn new(digest: CallDigest, approval: &str) -> Self {
        Self { digest, approval: approval.into(), round: 1 }
    }

    /// The same once its client has gone on with it.
    #[must_use]
    pub fn gone_on(self) -> Self {
        Self { round: self.round.saturating_add(1), ..self }
    }
}

impl HeldState {
    /// Returns whether a raw `requestState` may be one.
    pub fn may_be(raw: &str) -> bool {
        raw.contains(SEPARATOR)
    }

    /// Seals it at `now` before `state`, which it is bound to, as it is to the owner and the exposed name of the tool.
    pub fn seal(
        &self,
        trust: &Trust,
        owner: HandleOwner<'_>,
        exposed: &str,
        state: &str,
        now: u64,
    ) -> Result<String, SealError> {
        let content = match self {
            Self::Begun(BegunCall { digest, approval, round }) => {
                let expires = now.saturating_add(LIFETIME).to_be_bytes();
                seal::join([BEGUN, digest, approval.as_bytes(), &round.to_be_bytes(), &expires])
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
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Box::<str>::from);
        let held = match *seal::split_all(&content)? {
            [kind, name, expires, url] if kind == WAITS => {
                let (name, expires, url) = (text(name)?, text(expires)?, text(url)?);
                Self::Waits(PendingApproval { name, expires, url })
            }
            [kind, digest, approval, round, expires] if kind == BEGUN => {
                let (digest, approval) = (digest.try_into().ok()?, text(approval)?);
                let round = i64::from_be_bytes(round.try_into().ok()?);
                let expires = u64::from_be_bytes(expires.try_into().ok()?);
                (now < expires).then_some(Self::Begun(BegunCall { digest, approval, round }))?
            }
            _ => return None,
        };
        Some((held, state))
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
        [HeldState::Waits(approval), HeldState::Begun(BegunCall::new([7; 32], "approvals/a").gone_on())]
    }

    #[test]
    fn it_opens_for_its_owner_its_tool_and_the_state_that_it_stands_before() {
        let trust = trust(&[1]);
        for (held, state) in states().into_iter().zip(["", "upstream-state"]) {
            let text = held.seal(&trust, OWNER, "x", state, 100).unwrap();
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
        let [waits, begun] = states().map(|held| held.seal(&trust, OWNER, "x", "s", 100).unwrap());
        let opens = |text: &str, now| HeldState::open(&trust, OWNER, "x", text, now).is_some();
        assert!(opens(&begun, 99 + LIFETIME) && !opens(&begun, 100 + LIFETIME));
        assert!(opens(&waits, 100 + 2 * LIFETIME), "it says nothing but what is waited for");
    }
}
