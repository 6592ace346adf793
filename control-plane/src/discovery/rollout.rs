//! The rollout of a revision over the fleet: the updates for a watcher, and the end of it. Pure.
//!
//! It must not know where standings come from.

use std::collections::BTreeMap;

use trunkline::discovery::v1::{EdgeRefusal, EdgeStatus, RolloutCounts, RolloutState, WatchRolloutResponse};

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
                updates.push(WatchRolloutResponse { edge: Some(edge), state: state.into(), counts: None });
            }
        }
        if over && !fleet.iter().any(|standing| standing.connected) {
            updates.push(WatchRolloutResponse::default());
        }
        (updates, over)
    }

    /// Returns the update for a watcher who may not see the edges: how many stand where, and what they refuse.
    pub(super) fn counted(&self, fleet: &[EdgeProgress]) -> WatchRolloutResponse {
        let mut counts = RolloutCounts::default();
        let mut edge = EdgeStatus::default();
        for standing in fleet {
            let count = match self.state(standing) {
                RolloutState::Acknowledged => &mut counts.acknowledged,
                RolloutState::Refused => &mut counts.refused,
                RolloutState::Disconnected => &mut counts.disconnected,
                RolloutState::Pending | RolloutState::Unspecified => &mut counts.pending,
            };
            *count += 1;
            if standing.connected {
                let refusals = standing.status(self.revision).refusals.into_iter();
                edge.refusals.extend(refusals.filter(|refusal| refusal.revision >= self.revision));
            }
        }
        edge.refusals.sort_by(|a, b| name_of(a).cmp(name_of(b)));
        edge.refusals.dedup_by(|a, b| name_of(a) == name_of(b));
        let edge = fleet.iter().any(|standing| standing.connected).then_some(edge);
        WatchRolloutResponse { edge, state: overall(&counts).into(), counts: Some(counts) }
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

fn name_of(refusal: &EdgeRefusal) -> &str {
    refusal.refusal.as_ref().map(|refusal| refusal.name.as_str()).unwrap_or_default()
}

/// Where all edges stand together.
fn overall(counts: &RolloutCounts) -> RolloutState {
    match counts {
        counts if counts.pending > 0 => RolloutState::Pending,
        counts if counts.refused > 0 => RolloutState::Refused,
        counts if counts.acknowledged > 0 => RolloutState::Acknowledged,
        _ => RolloutState::Disconnected,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

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
    fn who_may_not_see_edges_is_told_how_many_there_are() {
        let shown = |fleet: &[EdgeProgress]| {
            let update = Rollout::new(5).counted(fleet);
            let RolloutCounts { pending, acknowledged, refused, disconnected } = update.counts.unwrap();
            let edge = update.edge.clone().map(|edge| (edge.name, edge.refusals.len()));
            (edge, update.state(), [pending, acknowledged, refused, disconnected])
        };
        let all = [
            edge("a", true, 4, &[]),
            edge("b", true, 5, &[3, 5]),
            edge("c", true, 5, &[5]),
            edge("d", false, 0, &[]),
        ];
        // What both refuse is told once, and what was refused before is no part of it.
        assert_eq!(shown(&all), (Some((String::new(), 1)), RolloutState::Pending, [1, 0, 2, 1]));
        assert_eq!(shown(&all[1..]), (Some((String::new(), 1)), RolloutState::Refused, [0, 0, 2, 1]));
        assert_eq!(shown(&all[3..]), (None, RolloutState::Disconnected, [0, 0, 0, 1]));
        let done = [edge("a", true, 6, &[])];
        assert_eq!(shown(&done), (Some((String::new(), 0)), RolloutState::Acknowledged, [0, 1, 0, 0]));
    }

    #[test]
    fn without_edges_there_is_nothing_to_wait_for() {
        let (updates, over) = Rollout::new(5).advance(&[]);
        assert!(over && updates[0].edge.is_none());
    }
}
