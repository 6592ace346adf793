//! The condition that a request comes from an address that its token may be used from. One whose address is not known does not.

use super::{Facts, Reason};
use crate::error::Unmet;
use crate::snapshot::Conditions;

pub(super) fn check(conditions: &Conditions, facts: &Facts) -> Result<(), Reason> {
    let Some(from) = &conditions.from else { return Ok(()) };
    let is_allowed = facts.address.is_some_and(|address| from.contains(address.to_canonical()));
    if is_allowed { Ok(()) } else { Err(Reason::Unmet(Unmet::Address)) }
}
