//! The condition that the time of a token has begun.

use super::{Facts, Reason};
use crate::error::Unmet;
use crate::snapshot::Conditions;

pub(super) fn check(conditions: &Conditions, facts: &Facts) -> Result<(), Reason> {
    match conditions.not_before {
        Some(begins) if facts.now < begins => Err(Reason::Unmet(Unmet::NotYetValid)),
        _ => Ok(()),
    }
}
