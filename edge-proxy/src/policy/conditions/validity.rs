//! The condition that rights are in force: not revoked nor suspended, and neither the token nor its credential expired.
//!
//! A token expires apart from its credential, because the time of a token can be edited.

use std::time::Duration;

use super::{Facts, Reason};
use crate::identity::Principal;
use crate::snapshot::{Conditions, Token};

pub(super) fn check(token: &Token, facts: &Facts) -> Result<(), Reason> {
    if token.revoked {
        Err(Reason::Revoked)
    } else if is_over(token.expires, facts) {
        Err(Reason::TokenExpired)
    } else {
        Ok(())
    }
}

pub(super) fn check_credential(principal: &Principal, facts: &Facts) -> Result<(), Reason> {
    if is_over(principal.expires, facts) { Err(Reason::CredentialExpired) } else { Ok(()) }
}

pub(super) fn check_owner(conditions: &Conditions) -> Result<(), Reason> {
    if conditions.suspended { Err(Reason::Suspended) } else { Ok(()) }
}

/// Returns the time until the condition fails, if it ever does by itself.
pub(super) fn remaining(principal: &Principal, token: Option<&Token>, now: u64) -> Option<Duration> {
    let token = token.and_then(|token| token.expires);
    let earlier = principal.expires.into_iter().chain(token).min()?;
    Some(Duration::from_secs(earlier.saturating_sub(now)))
}

fn is_over(expires: Option<u64>, facts: &Facts) -> bool {
    expires.is_some_and(|expires| expires <= facts.now)
}
