//! The condition that it is one of the times at which a token may be used.

use std::time::Duration;

use super::{Facts, Reason};
use crate::error::Unmet;
use crate::snapshot::Conditions;

pub(super) fn check(conditions: &Conditions, facts: &Facts) -> Result<(), Reason> {
    match conditions.times.as_ref().map(|times| times.at(facts.now)) {
        Some((false, opens_in)) => Err(Reason::Unmet(Unmet::Window { opens_in })),
        None | Some((true, _)) => Ok(()),
    }
}

/// Returns the time for which the condition holds, if that ends.
pub(super) fn remaining(conditions: &Conditions, now: u64) -> Option<Duration> {
    conditions.times.as_ref()?.at(now).1.map(Duration::from_secs)
}
