//! Edges that are enrolled.
//!
//! It must not know streams: what is written about an edge is for `discovery` to say.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::audit::Deed;
use super::values::{self, ROWS};
use super::{Store, StoreError};

/// An edge as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeRow {
    /// Its id.
    pub id: String,
    /// Its present enrolment.
    pub enrollment: EnrollmentRow,
    /// The replica it is connected to; empty: none.
    pub replica: String,
    /// The number of the connection on that replica.
    pub connection: i64,
    /// The time at which that replica last wrote this row.
    pub beat_us: i64,
    /// The time at which it connected or disconnected.
    pub state_us: i64,
    /// Version of its program.
    pub version: String,
    /// The address where clients reach it, as the edge states it.
    pub client_address: String,
    /// Where upstreams may be, as its egress rule says it. Empty: an earlier build, which does not say it.
    pub egress: String,
    /// The address where other edges reach it. Empty: they cannot.
    pub sibling_address: String,
    /// SHA-256 of the certificate that it presents to them, in hexadecimal.
    pub sibling_certificate: String,
    /// Everything up to here was sent.
    pub sent_revision: i64,
    /// Everything up to here was answered.
    pub answered_revision: i64,
    /// Everything up to here was accepted.
    pub acked_revision: i64,
    /// The time since when it has been behind. 0: it is not.
    pub behind_us: i64,
    /// The resources that it refuses, encoded.
    pub refusals: Vec<u8>,
}

/// An enrolment of an edge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnrollmentRow {
    /// Its id, which tells it from every other enrolment of an edge of this id.
    pub id: String,
    /// The time at which it began.
    pub enroll_us: i64,
    /// The id of the join token that it was made with. Empty: an earlier build made it.
    pub join_token: String,
    /// The number of attempts to enrol under the id of the edge that were refused.
    pub refused_count: i64,
    /// The time of the last one.
    pub refused_us: i64,
    /// The address that the last one came from.
    pub refused_address: String,
    /// The id of the join token that the last one presented.
    pub refused_join_token: String,
}

/// An edge as other edges find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiblingRow {
    /// Its id.
    pub id: String,
    /// Its address.
    pub address: String,
    /// SHA-256 of its certificate, in hexadecimal.
    pub certificate: String,
    /// The time of its last heartbeat.
    pub seen_us: i64,
}

/// A connection of an edge that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepartureRow {
    /// The id of the edge.
    pub id: String,
    /// The number of the connection on its replica.
    pub connection: i64,
    /// The time at which it ended.
    pub state_us: i64,
}

/// Statements about the edges that are connected, which grow with the changes and not with the edges.
#[derive(Debug, Default)]
pub struct EdgeStatements {
    lookups: AtomicU64,
    writes: AtomicU64,
}

impl EdgeStatements {
    /// Those that looked up enrolments.
    pub fn lookups(&self) -> u64 {
        self.lookups.load(Ordering::Relaxed)
    }

    /// Those that wrote where edges stand.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }
}

/// The tables.
#[derive(Debug, Clone)]
pub struct Edges {
    store: Store,
    statements: Arc<EdgeStatements>,
}

impl Edges {
    /// The tables of this database.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), statements: Arc::default() }
    }

    /// The number of statements so far.
    pub fn statements(&self) -> &EdgeStatements {
        &self.statements
    }

    /// One edge.
    pub async fn get(&self, id: &str) -> sqlx::Result<Option<EdgeRow>> {
        let row = sqlx::query("SELECT * FROM edges WHERE id = $1")
            .bind(id)
            .fetch_optional(self.store.pool())
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Edges by id, those after `after`.
    pub async fn list(&self, after: &str, limit: i64) -> sqlx::Result<Vec<EdgeRow>> {
        sqlx::query("SELECT * FROM edges WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after)
            .bind(limit)
            .fetch_all(self.store.pool())
            .await?
            .iter()
            .map(read)
            .collect()
    }

    /// Forgets an edge. Answers whether it was there.
    pub async fn delete(&self, id: &str) -> Result<bool, StoreError> {
        let mut tx = self.store.write().await?;
        let delete = sqlx::query("DELETE FROM edges WHERE id = $1").bind(id);
        if delete.execute(tx.connection()).await?.rows_affected() == 0 {
            return Ok(false);
        }
        let before = Some(json!({ "edge": id }));
        tx.record_aside(Deed { resource: format!("edges/{id}"), before, ..Deed::default() });
        tx.commit().await?;
        Ok(true)
    }

    /// Forgets the edges that enrolled before `before_us` and were never connected since. Returns their ids.
    pub async fn forget_unused(&self, before_us: i64) -> sqlx::Result<Vec<String>> {
        let _turn = self.store.turn().await;
        sqlx::query("DELETE FROM edges WHERE beat_us = 0 AND enroll_us < $1 RETURNING id")
            .bind(before_us)
            .fetch_all(self.store.pool())
            .await?
            .iter()
            .map(|row| row.try_get("id"))
            .collect()
    }

    /// Lists the edges with the ids of their present enrolments.
    pub async fn enrollments(&self) -> sqlx::Result<HashSet<(String, String)>> {
        let rows = sqlx::query("SELECT id, enrollment FROM edges").fetch_all(self.store.pool()).await?;
        rows.iter().map(|row| Ok((row.try_get("id")?, row.try_get("enrollment")?))).collect()
    }

    /// Looks up the present enrolments of these edges, by id. Edges that are not enrolled are left out.
    pub async fn enrollments_of(&self, ids: &[&str]) -> sqlx::Result<HashMap<String, String>> {
        let mut found = HashMap::new();
        for ids in ids.chunks(ROWS) {
            let places = values::list(0, ids.len());
            let sql = format!("SELECT id, enrollment FROM edges WHERE id IN ({places})");
            let query = sqlx::query(AssertSqlSafe(sql)).persistent(ids.len() == 1);
            let query = ids.iter().fold(query, |query, id| query.bind(*id));
            self.statements.lookups.fetch_add(1, Ordering::Relaxed);
            for row in query.fetch_all(self.store.pool()).await? {
                found.insert(row.try_get("id")?, row.try_get("enrollment")?);
            }
        }
        Ok(found)
    }

    /// Writes where edges stand, each at most once. Returns the ids of those whose enrolment is still the present one.
    pub async fn report(&self, rows: &[EdgeRow]) -> sqlx::Result<HashSet<String>> {
        let mut present = HashSet::new();
        for rows in rows.chunks(ROWS) {
            let sql = AssertSqlSafe(update(
                "",
                &STANDING,
                &["id", "enrollment"],
                0,
                rows.len(),
                "RETURNING edges.id AS id",
            ));
            let query = rows.iter().fold(sqlx::query(sql).persistent(rows.len() == ROWS), |query, row| {
                query
                    .bind(row.id.as_str())
                    .bind(row.enrollment.id.as_str())
                    .bind(row.replica.as_str())
                    .bind(row.connection)
                    .bind(row.beat_us)
                    .bind(row.state_us)
                    .bind(row.version.as_str())
                    .bind(row.client_address.as_str())
                    .bind(row.sent_revision)
                    .bind(row.answered_revision)
                    .bind(row.acked_revision)
                    .bind(row.behind_us)
                    .bind(row.refusals.as_slice())
                    .bind(row.sibling_address.as_str())
                    .bind(row.sibling_certificate.as_str())
                    .bind(row.egress.as_str())
            });
            // For each statement: whoever writes the registry waits for one of them at most.
            let _turn = self.store.turn().await;
            self.statements.writes.fetch_add(1, Ordering::Relaxed);
            for row in query.fetch_all(self.store.pool()).await? {
                present.insert(row.try_get("id")?);
            }
        }
        Ok(present)
    }

    /// The edges that other edges can reach and that were there since `since_us`, by id.
    pub async fn siblings(&self, since_us: i64) -> sqlx::Result<Vec<SiblingRow>> {
        sqlx::query(
            "SELECT id, sibling_address, sibling_certificate, beat_us, state_us FROM edges \
             WHERE sibling_address <> '' AND (beat_us >= $1 OR state_us >= $1) ORDER BY id",
        )
        .bind(since_us)
        .fetch_all(self.store.pool())
        .await?
        .iter()
        .map(read_sibling)
        .collect()
    }

    /// Counts the edges that are connected to other replicas, of which there was a sign of life since then.
    pub async fn connected_elsewhere(&self, replica: &str, since_us: i64) -> sqlx::Result<i64> {
        let sql =
            "SELECT COUNT(*) AS count FROM edges WHERE replica <> '' AND replica <> $1 AND beat_us > $2";
        sqlx::query(sql).bind(replica).bind(since_us).fetch_one(self.store.pool()).await?.try_get("count")
    }

    /// Writes that connections to `replica` ended, unless the edge has another one by now.
    pub async fn leave(&self, replica: &str, departures: &[DepartureRow]) -> sqlx::Result<()> {
        for rows in departures.chunks(ROWS) {
            let still_there = "AND edges.replica = $1";
            let sql = update("replica = '', ", &DEPARTURE, &["id", "connection"], 1, rows.len(), still_there);
            let query = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(replica);
            let query = rows.iter().fold(query, |query, row| {
                query.bind(row.id.as_str()).bind(row.connection).bind(row.state_us)
            });
            let _turn = self.store.turn().await;
            self.statements.writes.fetch_add(1, Ordering::Relaxed);
            query.execute(self.store.pool()).await?;
        }
        Ok(())
    }
}

/// The columns that say where an edge stands, after those that name its enrolment.
const STANDING: [&str; 16] = [
    "id",
    "enrollment",
    "replica",
    "connection",
    "beat_us",
    "state_us",
    "version",
    "client_address",
    "sent_revision",
    "answered_revision",
    "acked_revision",
    "behind_us",
    "refusals",
    "sibling_address",
    "sibling_certificate",
    "egress",
];

/// The columns that say that an edge left.
const DEPARTURE: [&str; 3] = ["id", "connection", "state_us"];

/// The statement that updates so many edges at once: a row of values for each, of these columns, of which `keys` find the edge.
/// `assigned` comes before what is set, `end` after the condition, and `before` is the number of other values.
fn update(assigned: &str, columns: &[&str], keys: &[&str], before: usize, rows: usize, end: &str) -> String {
    let equal = |columns: Vec<&&str>, of: &str, joint: &str| {
        columns.iter().map(|name| format!("{of}{name} = v.{name}")).collect::<Vec<_>>().join(joint)
    };
    let values = values::rows(before, columns.len(), rows);
    let set = equal(columns.iter().filter(|name| !keys.contains(*name)).collect(), "", ", ");
    let found = equal(keys.iter().collect(), "edges.", " AND ");
    let columns = columns.join(", ");
    format!(
        "WITH v ({columns}) AS (VALUES {values}) UPDATE edges SET {assigned}{set} FROM v WHERE {found} {end}"
    )
}

fn read_sibling(row: &AnyRow) -> sqlx::Result<SiblingRow> {
    let (beat_us, state_us): (i64, i64) = (row.try_get("beat_us")?, row.try_get("state_us")?);
    Ok(SiblingRow {
        id: row.try_get("id")?,
        address: row.try_get("sibling_address")?,
        certificate: row.try_get("sibling_certificate")?,
        seen_us: beat_us.max(state_us),
    })
}

fn read_enrollment(row: &AnyRow) -> sqlx::Result<EnrollmentRow> {
    Ok(EnrollmentRow {
        id: row.try_get("enrollment")?,
        enroll_us: row.try_get("enroll_us")?,
        join_token: row.try_get("join_token")?,
        refused_count: row.try_get("refused_count")?,
        refused_us: row.try_get("refused_us")?,
        refused_address: row.try_get("refused_address")?,
        refused_join_token: row.try_get("refused_join_token")?,
    })
}

fn read(row: &AnyRow) -> sqlx::Result<EdgeRow> {
    Ok(EdgeRow {
        id: row.try_get("id")?,
        enrollment: read_enrollment(row)?,
        replica: row.try_get("replica")?,
        connection: row.try_get("connection")?,
        beat_us: row.try_get("beat_us")?,
        state_us: row.try_get("state_us")?,
        version: row.try_get("version")?,
        client_address: row.try_get("client_address")?,
        egress: row.try_get("egress")?,
        sibling_address: row.try_get("sibling_address")?,
        sibling_certificate: row.try_get("sibling_certificate")?,
        sent_revision: row.try_get("sent_revision")?,
        answered_revision: row.try_get("answered_revision")?,
        acked_revision: row.try_get("acked_revision")?,
        behind_us: row.try_get("behind_us")?,
        refusals: row.try_get("refusals")?,
    })
}
