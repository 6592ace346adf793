//! The rollout of a revision over the fleet: the updates for a watcher, and the end of it. Pure.
//!
//! It must not know where standings come from.

use std::collections::BTreeMap;

use trunkline::discovery::v1::{RolloutState, WatchRolloutResponse};

use super::fleet::EdgeProgress;

/// One watch.
#[derive(Debug)]
pub(super) struct Rollout {
    revision: i64,
    sent: BTreeMap<String, RolloutState>,
}

impl Rollout {
    pub(super) fn new(revision: i64) -> Self {
        Self { revision, sent: BTreeMap::new() }
    }

    /// Returns the updates for the watcher, and whether the watch is over.
    pub(super) fn advance(&mut self, fleet: &[EdgeProgress]) -> (Vec<WatchRolloutResponse>, bool) {
        let mut updates = Vec::new();
        let mut over = true;
        for standing in fleet {
            let state = self.state(standing);
            over &= state != RolloutState::Pending;
            if self.sent.insert(standing.row.id.clone(), state) != Some(state) {
                let edge = Some(standing.status(self.revision));
                updates.push(WatchRolloutResponse { edge, state: state.into() });
            }
        }
        if over && !fleet.iter().any(|standing| standing.connected) {
            updates.push(WatchRolloutResponse::default());
        }
        (updates, over)
    }

    fn state(&self, standing: &EdgeProgress) -> RolloutState {
        match standing {
            standing if !standing.connected => RolloutState::Disconnected,
            standing if standing.row.acked_revision >= self.revision => RolloutState::Acknowledged,
            standing if standing.row.answered_revision >= self.revision => RolloutState::Refused,
            _ => RolloutState::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::edges::EdgeRow;

    fn edge(id: &str, connected: bool, answered: i64, acked: i64) -> EdgeProgress {
        let row = EdgeRow {
            id: id.to_owned(),
            answered_revision: answered,
            acked_revision: acked,
            ..Default::default()
        };
        EdgeProgress { row, connected }
    }

    fn states(updates: &[WatchRolloutResponse]) -> Vec<RolloutState> {
        updates.iter().map(WatchRolloutResponse::state).collect()
    }

    #[test]
    fn it_is_over_when_every_connected_edge_has_answered() {
        let mut rollout = Rollout::new(5);
        let (updates, over) =
            rollout.advance(&[edge("a", true, 4, 4), edge("b", true, 5, 4), edge("c", false, 0, 0)]);
        assert_eq!(
            states(&updates),
            [RolloutState::Pending, RolloutState::Refused, RolloutState::Disconnected]
        );
        assert!(!over);
        let (updates, over) =
            rollout.advance(&[edge("a", true, 6, 6), edge("b", true, 5, 4), edge("c", false, 0, 0)]);
        assert_eq!(states(&updates), [RolloutState::Acknowledged]);
        assert!(over);
    }

    #[test]
    fn without_edges_there_is_nothing_to_wait_for() {
        let (updates, over) = Rollout::new(5).advance(&[]);
        assert!(over && updates[0].edge.is_none());
    }
}
