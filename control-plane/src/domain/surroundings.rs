//! What the state of a resource follows from besides the resource itself: the time, and the resources around it.

use std::collections::BTreeMap;

use trunkline::identity::v1::TeamStatus;
use trunkline::registry::v1::UpstreamState;

use super::{Catalogue, names};
use crate::rights::Rights;

/// The time, and the resources around one.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The time, in microseconds.
    pub now_us: i64,
    /// The catalogue, and which servers there are. Empty where the kind does not look at it.
    pub catalogue: &'a Catalogue,
    /// The states of upstreams, by name. Empty where the kind does not look at them.
    pub upstream_states: &'a BTreeMap<String, UpstreamState>,
    /// What is known of people and of what they use. Empty where the kind does not look at it.
    pub people: &'a People,
    /// Who looks. What does not exist for them is not named.
    pub viewer: &'a Rights,
}

impl Surroundings<'_> {
    /// Tells whether the upstream of an entry exists for the viewer.
    pub fn sees_upstream_of(&self, entry: &str) -> bool {
        if self.viewer.sees_all() {
            return true;
        }
        let id = names::upstream_id(entry).unwrap_or_default();
        self.catalogue.upstreams(id).any(|upstream| self.viewer.sees(&upstream.ownership))
    }
}

/// What states follow from that is known of people, and of what they use.
#[derive(Debug, Clone, Default)]
pub struct People {
    /// Those who are disabled, themselves or by who answers for them, and since when, in microseconds.
    pub disabled: BTreeMap<String, i64>,
    /// When, and from where, tokens were last used.
    pub last_uses: BTreeMap<String, LastUse>,
    /// The members of teams that have any.
    pub teams: BTreeMap<String, TeamStatus>,
}

/// The last use of a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastUse {
    /// When, in microseconds.
    pub time_us: i64,
    /// The address of the client. Empty: not known.
    pub address: String,
}
