//! What the state of a resource follows from besides the resource itself: the time, and the resources around it.

use std::collections::BTreeMap;

use trunkline::registry::v1::UpstreamState;

use super::Catalogue;

/// The time, and the resources around one.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The time, in microseconds.
    pub now_us: i64,
    /// The catalogue, and which servers there are. Empty where the kind does not look at it.
    pub catalogue: &'a Catalogue,
    /// The states of upstreams, by name. Empty where the kind does not look at them.
    pub upstream_states: &'a BTreeMap<String, UpstreamState>,
}
