//! The condition that rights are in force: not revoked, and neither the token nor its credential expired.
//!
//! A token expires apart from its credential, because the time of a token can be edited.

use std::time::Duration;

use super::{Facts, Reason};
use crate::identity::Principal;
use crate::snapshot::Token;

pub(super) fn check(principal: &Principal, token: &Token, facts: &Facts) -> Result<(), Reason> {
    let is_over = |expires: Option<u64>| expires.is_some_and(|expires| expires <= facts.now);
    if token.revoked {
        Err(Reason::Revoked)
    } else if is_over(token.expires) {
        Err(Reason::TokenExpired)
    } else if is_over(principal.expires) {
        Err(Reason::CredentialExpired)
    } else {
        Ok(())
    }
}

/// Returns the time until the condition fails, if it ever does by itself.
pub(in crate::policy) fn remaining(
    principal: &Principal,
    token: Option<&Token>,
    now: u64,
) -> Option<Duration> {
    let token = token.and_then(|token| token.expires);
    let earlier = principal.expires.into_iter().chain(token).min()?;
    Some(Duration::from_secs(earlier.saturating_sub(now)))
}
