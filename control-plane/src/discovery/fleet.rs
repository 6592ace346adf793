//! The edges that are connected and the revision of each, on this replica and, through the table of edges, on all.
//!
//! It must not know how the stream works.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use delta::server::Progress;
use prost::Message;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trunkline::discovery::v1::{Edge, EdgeState, EdgeStatus, RefusedEnrollments};

use super::announcement::sibling;
use super::enrollment_watch::{EnrollmentWatch, StreamPurpose, WatchedStream};
use super::join_tokens::name_of;
use crate::auth::credential::EdgeClaims;
use crate::clock;
use crate::error::Error;
use crate::store::StoreError;
use crate::store::edges::{DepartureRow, EdgeRow, EdgeStatements, Edges, EnrollmentRow};

/// Without a sign of life for so long, an edge's replica is gone, and the edge with it.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// Every write takes a moment to arrive; an edge is behind that takes longer.
const BEHIND: Duration = Duration::from_secs(2);

/// The edges.
#[derive(Debug)]
pub struct Fleet {
    pub(super) edges: Edges,
    pub(super) replica: String,
    enrollments: Arc<EnrollmentWatch>,
    local: Mutex<Local>,
    changed: watch::Sender<u64>,
    /// Changes when the table of edges has come to name other siblings.
    pub(super) siblings: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Local {
    next: i64,
    pub(super) connected: BTreeMap<String, Connected>,
    /// The last connections of edges that left, until the table says so.
    pub(super) departed: BTreeMap<String, DepartureRow>,
}

#[derive(Debug)]
pub(super) struct Connected {
    pub(super) row: EdgeRow,
    pub(super) dirty: bool,
    /// True once the table says that it is here.
    pub(super) told: bool,
    evicted: CancellationToken,
}

/// The place of a connected edge; leaving it is dropping it.
#[derive(Debug)]
pub struct ConnectionGuard {
    fleet: Arc<Fleet>,
    edge: String,
    enrollment: String,
    connection: i64,
    evicted: CancellationToken,
}

impl Fleet {
    /// The fleet, as one replica sees it.
    pub fn new(edges: Edges, replica: String) -> Self {
        let (changed, siblings) = (watch::Sender::new(0), watch::Sender::new(0));
        let enrollments = Arc::new(EnrollmentWatch::new(edges.clone()));
        Self { edges, replica, enrollments, local: Mutex::default(), changed, siblings }
    }

    /// Watches a stream of an edge, in the place of the one that its enrolment had for this purpose. Fails where the enrolment
    /// has ended.
    pub(super) async fn watch(
        &self,
        claims: &EdgeClaims,
        purpose: StreamPurpose,
    ) -> Result<WatchedStream, Error> {
        self.enrollments.watch(claims, purpose).await
    }

    /// Seats an edge that has connected. A connection that it had before is ended.
    pub fn join(self: &Arc<Self>, edge: &Edge, enrollment: &str) -> ConnectionGuard {
        let evicted = CancellationToken::new();
        let mut local = self.local();
        local.next += 1;
        let connection = local.next;
        let (sibling_address, sibling_certificate) = sibling(edge).unwrap_or_default();
        let row = EdgeRow {
            id: edge.id.clone(),
            enrollment: EnrollmentRow { id: enrollment.to_owned(), ..Default::default() },
            replica: self.replica.clone(),
            connection,
            state_us: clock::now_us(),
            version: edge.version.clone(),
            client_address: edge.client_address.clone(),
            egress: edge.egress.clone(),
            sibling_address,
            sibling_certificate,
            ..Default::default()
        };
        let connected = Connected { row, dirty: true, told: false, evicted: evicted.clone() };
        if let Some(before) = local.connected.insert(edge.id.clone(), connected) {
            before.evicted.cancel();
        }
        drop(local);
        self.touch();
        let (edge, enrollment) = (edge.id.clone(), enrollment.to_owned());
        ConnectionGuard { fleet: self.clone(), edge, enrollment, connection, evicted }
    }

    /// Changes whenever an edge of this replica gets further, comes or goes.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Changes when an edge of this replica can be reached by others, or was deleted here.
    pub fn siblings_changed(&self) -> watch::Receiver<u64> {
        self.siblings.subscribe()
    }

    /// Edges after `after`, wherever they are connected.
    pub async fn list(&self, after: &str, limit: i64) -> sqlx::Result<Vec<EdgeProgress>> {
        Ok(self.standings(&self.rows(after, limit).await?))
    }

    /// Edges after `after`, as the table has them.
    pub(super) async fn rows(&self, after: &str, limit: i64) -> sqlx::Result<Vec<EdgeRow>> {
        self.edges.list(after, limit).await
    }

    /// Adds what is known here to what the table has.
    pub(super) fn standings(&self, rows: &[EdgeRow]) -> Vec<EdgeProgress> {
        rows.iter().map(|row| self.standing(row.clone())).collect()
    }

    /// One edge.
    pub async fn get(&self, id: &str) -> sqlx::Result<Option<EdgeProgress>> {
        Ok(self.edges.get(id).await?.map(|row| self.standing(row)))
    }

    /// Forgets an edge and ends its streams here at once; on other replicas that follows within a second.
    pub async fn delete(&self, id: &str) -> Result<bool, StoreError> {
        let was_there = self.edges.delete(id).await?;
        self.end_enrollments(id, None);
        Ok(was_there)
    }

    /// Ends the streams of an edge here, but for those of the enrolment `except`, because the other ones have ended.
    pub fn end_enrollments(&self, id: &str, except: Option<&str>) {
        self.enrollments.end(id, except);
        self.evict(id, |edge| except != Some(edge.row.enrollment.id.as_str()));
        self.siblings.send_modify(|count| *count += 1);
    }

    /// Tells whether an enrolment is the present one of an edge.
    pub async fn knows(&self, claims: &EdgeClaims) -> Result<bool, Error> {
        self.enrollments.is_present(claims).await
    }

    /// Writes what changed, and signs of life, and watches the enrolments, for ever.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.enrollments.clone().run(), self.keep_written());
    }

    /// The number of statements about edges that this replica has made.
    pub fn statements(&self) -> &EdgeStatements {
        self.edges.statements()
    }

    /// Counts the edges connected here.
    pub fn connected_here(&self) -> usize {
        self.local().connected.len()
    }

    pub(super) fn evict(&self, id: &str, is_over: impl FnOnce(&Connected) -> bool) {
        let mut local = self.local();
        let found = local.connected.get(id).is_some_and(is_over);
        if let Some(edge) = found.then(|| local.connected.remove(id)).flatten() {
            edge.evicted.cancel();
        }
    }

    fn standing(&self, stored: EdgeRow) -> EdgeProgress {
        let local = self.local();
        let here = local.connected.get(&stored.id);
        match here.filter(|edge| edge.row.enrollment.id == stored.enrollment.id) {
            Some(edge) => {
                let row = EdgeRow { enrollment: stored.enrollment, ..edge.row.clone() };
                EdgeProgress { row, connected: true }
            }
            None => {
                let silence = clock::now_us() - clock::duration_us(SILENCE);
                let elsewhere = !stored.replica.is_empty() && stored.replica != self.replica;
                EdgeProgress { connected: elsewhere && stored.beat_us > silence, row: stored }
            }
        }
    }

    pub(super) fn with(&self, id: &str, connection: i64, change: impl FnOnce(&mut Connected)) {
        if let Some(edge) =
            self.local().connected.get_mut(id).filter(|edge| edge.row.connection == connection)
        {
            change(edge);
        }
    }

    /// Notes that a connection ended, unless a later one of the edge ended before it.
    fn depart(&self, departure: DepartureRow) {
        let mut local = self.local();
        let is_older = |noted: &DepartureRow| noted.connection > departure.connection;
        if !local.departed.get(&departure.id).is_some_and(is_older) {
            local.departed.insert(departure.id.clone(), departure);
        }
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    pub(super) fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionGuard {
    /// Notes where the edge stands. `revision` is that of the snapshot it is compared with.
    pub fn report(&self, progress: &Progress, revision: i64) {
        let refusals = EdgeStatus { refusals: progress.refusals.clone(), ..Default::default() };
        self.fleet.with(&self.edge, self.connection, |edge| {
            let row = &mut edge.row;
            row.sent_revision = progress.sent;
            row.answered_revision = progress.answered;
            row.acked_revision = progress.acked;
            row.refusals = refusals.encode_to_vec();
            row.behind_us = match (progress.answered < revision, row.behind_us) {
                (false, _) => 0,
                (true, 0) => clock::now_us(),
                (true, since) => since,
            };
            edge.dirty = true;
        });
        self.fleet.touch();
    }

    /// Ends when the edge must leave this connection. Answers whether it has another one instead; else its enrolment has
    /// ended.
    pub async fn evicted(&self) -> bool {
        self.evicted.cancelled().await;
        let local = self.fleet.local();
        local.connected.get(&self.edge).is_some_and(|edge| edge.row.enrollment.id == self.enrollment)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.fleet.evict(&self.edge, |edge| edge.row.connection == self.connection);
        let departure =
            DepartureRow { id: self.edge.clone(), connection: self.connection, state_us: clock::now_us() };
        self.fleet.depart(departure);
        self.fleet.touch();
    }
}

/// An edge's progress.
#[derive(Debug, Clone)]
pub struct EdgeProgress {
    /// The row as stored, or newer.
    pub row: EdgeRow,
    /// True while its stream is open, on any replica.
    pub connected: bool,
}

impl EdgeProgress {
    /// Returns the newest revision that made something which the edge refuses. 0: it refuses nothing.
    pub(super) fn newest_refused(&self) -> Option<i64> {
        let refusals = EdgeStatus::decode(self.row.refusals.as_slice()).unwrap_or_default().refusals;
        refusals.iter().map(|refusal| refusal.revision).max()
    }

    /// Tells whether the edge lacks some of a registry at `revision` that its replica has not published: nothing here says since
    /// when.
    pub(super) fn lacks_unpublished(&self, revision: i64) -> bool {
        self.connected && self.row.answered_revision < revision && self.row.behind_us == 0
    }

    /// The same edge, behind since the registry went on at `moved_us`, or since it connected.
    pub(super) fn behind_since(mut self, moved_us: i64) -> Self {
        self.row.behind_us = moved_us.max(self.row.state_us);
        self
    }

    /// Builds the status of the contract, for a registry at `revision`.
    pub fn status(&self, revision: i64) -> EdgeStatus {
        let row = &self.row;
        let behind = self.connected && row.answered_revision < revision && row.behind_us > 0;
        let lag = if behind { (clock::now_us() - row.behind_us).max(0) } else { 0 };
        let known = EdgeStatus::decode(row.refusals.as_slice()).unwrap_or_default();
        EdgeStatus {
            name: format!("edges/{}", row.id),
            version: row.version.clone(),
            client_address: row.client_address.clone(),
            connected: self.connected,
            state_time: Some(clock::timestamp(row.state_us)),
            sent_revision: row.sent_revision,
            acked_revision: row.acked_revision,
            lag: prost_types::Duration::try_from(Duration::from_micros(lag.unsigned_abs())).ok(),
            sibling_address: row.sibling_address.clone(),
            enroll_time: Some(clock::timestamp(row.enrollment.enroll_us)),
            join_token: join_token_name(&row.enrollment.join_token),
            refused_enrollments: refused_enrollments(&row.enrollment),
            state: state(self.connected, lag, !known.refusals.is_empty()).into(),
            refusals: known.refusals,
            egress: row.egress.clone(),
        }
    }
}

/// How an edge stands that has been behind for `lag_us`.
fn state(connected: bool, lag_us: i64, refuses: bool) -> EdgeState {
    match connected {
        false => EdgeState::Disconnected,
        true if refuses => EdgeState::Refusing,
        true if lag_us > clock::duration_us(BEHIND) => EdgeState::Behind,
        true => EdgeState::Connected,
    }
}

fn refused_enrollments(row: &EnrollmentRow) -> Option<RefusedEnrollments> {
    (row.refused_count > 0).then(|| RefusedEnrollments {
        count: row.refused_count,
        last_time: Some(clock::timestamp(row.refused_us)),
        last_address: row.refused_address.clone(),
        last_join_token: join_token_name(&row.refused_join_token),
    })
}

/// Returns the name of a join token, or nothing where its id is unknown.
fn join_token_name(id: &str) -> String {
    if id.is_empty() { String::new() } else { name_of(id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_was_not_sent_the_newest_is_behind_since_the_registry_went_on() {
        let row = EdgeRow { answered_revision: 5, ..EdgeRow::default() };
        let edge = EdgeProgress { row, connected: true };
        assert!(edge.lacks_unpublished(6) && !edge.lacks_unpublished(5));
        assert_eq!(edge.status(6).state(), EdgeState::Connected);
        let long_ago = clock::now_us() - clock::duration_us(BEHIND) - 1;
        let connected_now = EdgeRow { state_us: clock::now_us(), ..edge.row.clone() };
        let behind = edge.behind_since(long_ago);
        assert!(!behind.lacks_unpublished(6));
        assert_eq!(behind.status(6).state(), EdgeState::Behind);
        let new = EdgeProgress { row: connected_now.clone(), connected: true }.behind_since(long_ago);
        assert_eq!(new.row.behind_us, connected_now.state_us, "it lacks nothing for longer than it is there");
    }

    #[test]
    fn an_edge_is_behind_only_when_it_takes_long() {
        let (moment, long) = (clock::duration_us(BEHIND), clock::duration_us(BEHIND) + 1);
        assert_eq!(state(true, 0, false), EdgeState::Connected);
        assert_eq!(state(true, moment, false), EdgeState::Connected);
        assert_eq!(state(true, long, false), EdgeState::Behind);
        assert_eq!(state(true, long, true), EdgeState::Refusing);
        assert_eq!(state(false, long, true), EdgeState::Disconnected);
    }
}
