//! The conditions that a caller's rights depend on, in the order in which they are evaluated. Each has a file.
//!
//! They must not know what is called: a condition sees the principal, its token and the facts of the request.

mod validity;

use std::net::IpAddr;

pub(super) use validity::remaining;

use super::denied::Reason;
use crate::identity::Principal;
use crate::snapshot::Token;

/// The facts of a request that conditions look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The address that the request came from, as the socket knows it.
    pub address: IpAddr,
    /// The time, in seconds since the Unix epoch.
    pub now: u64,
}

/// Checks every condition. Returns the reason of the first that does not hold.
pub(super) fn check(principal: &Principal, token: &Token, facts: &Facts) -> Result<(), Reason> {
    validity::check(principal, token, facts)
}
