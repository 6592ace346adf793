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
                let mut edge = standing.status(self.revision);
                edge.refusals.retain(|refusal| refusal.revision >= self.revision);
                updates.push(WatchRolloutResponse { edge: Some(edge), state: state.into() });
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
            standing if standing.row.answered_revision < self.revision => RolloutState::Pending,
            // What was refused before is no part of it. What is newer may contain it.
            standing if standing.newest_refused().is_some_and(|newest| newest >= self.revision) => {
                RolloutState::Refused
            }
            _ => RolloutState::Acknowledged,
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use trunkline::discovery::v1::{EdgeRefusal, EdgeStatus};

    use super::*;
    use crate::store::edges::EdgeRow;

    fn edge(id: &str, connected: bool, answered: i64, refused: &[i64]) -> EdgeProgress {
        let refusal = |revision: &i64| EdgeRefusal { revision: *revision, ..Default::default() };
        let refusals = refused.iter().map(refusal).collect();
        let row = EdgeRow {
            id: id.to_owned(),
            answered_revision: answered,
            refusals: EdgeStatus { refusals, ..Default::default() }.encode_to_vec(),
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
            rollout.advance(&[edge("a", true, 4, &[]), edge("b", true, 5, &[5]), edge("c", false, 0, &[])]);
        assert_eq!(
            states(&updates),
            [RolloutState::Pending, RolloutState::Refused, RolloutState::Disconnected]
        );
        assert!(!over);
        let (updates, over) =
            rollout.advance(&[edge("a", true, 6, &[]), edge("b", true, 5, &[5]), edge("c", false, 0, &[])]);
        assert_eq!(states(&updates), [RolloutState::Acknowledged]);
        assert!(over);
    }

    #[test]
    fn what_was_refused_before_is_no_part_of_it() {
        for (refused, expected) in [
            (&[][..], RolloutState::Acknowledged),
            (&[3, 4], RolloutState::Acknowledged),
            (&[3, 5], RolloutState::Refused),
            // It came with the same response, and may be what became of it.
            (&[6], RolloutState::Refused),
        ] {
            let (updates, over) = Rollout::new(5).advance(&[edge("a", true, 6, refused)]);
            assert_eq!((states(&updates), over), (vec![expected], true), "{refused:?}");
            let told = updates[0].edge.clone().unwrap_or_default().refusals;
            assert_eq!(told.len(), refused.iter().filter(|revision| **revision >= 5).count());
        }
    }

    #[test]
    fn an_edge_has_refused_nothing_of_an_empty_registry() {
        let (updates, over) = Rollout::new(0).advance(&[edge("a", true, 0, &[])]);
        assert_eq!((states(&updates), over), (vec![RolloutState::Acknowledged], true));
    }

    #[test]
    fn without_edges_there_is_nothing_to_wait_for() {
        let (updates, over) = Rollout::new(5).advance(&[]);
        assert!(over && updates[0].edge.is_none());
    }
}
