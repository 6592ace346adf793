//! The conditions that a caller's rights depend on, in the order in which they are evaluated. Each has a file.
//!
//! They must not know what is called: a condition sees the principal, its token and the facts of the request. Methods are checked
//! by whoever knows which is used.

mod address;
mod begin;
mod times;
mod validity;

use std::net::IpAddr;
use std::time::Duration;

use super::denied::Reason;
use crate::identity::Principal;
use crate::snapshot::{Conditions, Token};

/// The facts of a request that conditions look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The address that the request came from: that of the socket, or what a trusted proxy says. Absent where that cannot be
    /// told; what asks for an address denies then.
    pub address: Option<IpAddr>,
    /// The time, in seconds since the Unix epoch.
    pub now: u64,
}

/// Checks every condition of a token. Returns the reason of the first that does not hold.
pub(super) fn check(principal: &Principal, token: &Token, facts: &Facts) -> Result<(), Reason> {
    validity::check(token, facts)?;
    validity::check_credential(principal, facts)?;
    match &token.conditions {
        None => Ok(()),
        Some(conditions) => check_further(conditions, facts),
    }
}

/// Checks the conditions that only some tokens have.
fn check_further(conditions: &Conditions, facts: &Facts) -> Result<(), Reason> {
    validity::check_owner(conditions)?;
    begin::check(conditions, facts)?;
    address::check(conditions, facts)?;
    times::check(conditions, facts)
}

/// Checks the conditions of a person, whose bearer is all that can expire.
pub(super) fn check_person(principal: &Principal, facts: &Facts) -> Result<(), Reason> {
    validity::check_credential(principal, facts)
}

/// Returns the time until one of the conditions fails, if one ever does by itself.
pub(super) fn remaining(principal: &Principal, token: Option<&Token>, now: u64) -> Option<Duration> {
    let conditions = token.and_then(|token| token.conditions.as_ref());
    let until_closed = conditions.and_then(|conditions| times::remaining(conditions, now));
    validity::remaining(principal, token, now).into_iter().chain(until_closed).min()
}
