//! Edges that are enrolled.
//!
//! It must not know streams: what is written about an edge is for `discovery` to say.

use std::collections::HashSet;

use sqlx::any::AnyRow;
use sqlx::{AnyPool, Row as _};

use super::Store;
use crate::clock;

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

/// The tables.
#[derive(Debug, Clone)]
pub struct Edges {
    pool: AnyPool,
}

impl Edges {
    /// The tables of this database.
    pub fn new(store: &Store) -> Self {
        Self { pool: store.pool().clone() }
    }

    /// One edge.
    pub async fn get(&self, id: &str) -> sqlx::Result<Option<EdgeRow>> {
        let row =
            sqlx::query("SELECT * FROM edges WHERE id = $1").bind(id).fetch_optional(&self.pool).await?;
        row.as_ref().map(read).transpose()
    }

    /// Edges by id, those after `after`.
    pub async fn list(&self, after: &str, limit: i64) -> sqlx::Result<Vec<EdgeRow>> {
        sqlx::query("SELECT * FROM edges WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after)
            .bind(limit)
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(read)
            .collect()
    }

    /// Forgets an edge. Answers whether it was there.
    pub async fn delete(&self, id: &str) -> sqlx::Result<bool> {
        let done = sqlx::query("DELETE FROM edges WHERE id = $1").bind(id).execute(&self.pool).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Forgets the edges that enrolled before `before_us` and were never connected since. Returns their ids.
    pub async fn forget_unused(&self, before_us: i64) -> sqlx::Result<Vec<String>> {
        sqlx::query("DELETE FROM edges WHERE beat_us = 0 AND enroll_us < $1 RETURNING id")
            .bind(before_us)
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(|row| row.try_get("id"))
            .collect()
    }

    /// Lists the edges with the ids of their present enrolments.
    pub async fn enrollments(&self) -> sqlx::Result<HashSet<(String, String)>> {
        let rows = sqlx::query("SELECT id, enrollment FROM edges").fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((row.try_get("id")?, row.try_get("enrollment")?))).collect()
    }

    /// Writes where an edge stands. Answers whether that enrolment of the edge is still the present one.
    pub async fn report(&self, row: &EdgeRow) -> sqlx::Result<bool> {
        let done = sqlx::query(
            "UPDATE edges SET replica = $3, connection = $4, beat_us = $5, state_us = $6, version = $7, \
             client_address = $8, sent_revision = $9, answered_revision = $10, acked_revision = $11, \
             behind_us = $12, refusals = $13, sibling_address = $14, sibling_certificate = $15 \
             WHERE id = $1 AND enrollment = $2",
        )
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
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// The edges that other edges can reach and that were there since `since_us`, by id.
    pub async fn siblings(&self, since_us: i64) -> sqlx::Result<Vec<SiblingRow>> {
        sqlx::query(
            "SELECT id, sibling_address, sibling_certificate, beat_us, state_us FROM edges \
             WHERE sibling_address <> '' AND (beat_us >= $1 OR state_us >= $1) ORDER BY id",
        )
        .bind(since_us)
        .fetch_all(&self.pool)
        .await?
        .iter()
        .map(read_sibling)
        .collect()
    }

    /// Writes that a connection ended, unless the edge has another one by now.
    pub async fn leave(&self, id: &str, replica: &str, connection: i64) -> sqlx::Result<()> {
        sqlx::query(
            "UPDATE edges SET replica = '', state_us = $4 WHERE id = $1 AND replica = $2 AND connection = $3",
        )
        .bind(id)
        .bind(replica)
        .bind(connection)
        .bind(clock::now_us())
        .execute(&self.pool)
        .await?;
        Ok(())
    }
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
        sibling_address: row.try_get("sibling_address")?,
        sibling_certificate: row.try_get("sibling_certificate")?,
        sent_revision: row.try_get("sent_revision")?,
        answered_revision: row.try_get("answered_revision")?,
        acked_revision: row.try_get("acked_revision")?,
        behind_us: row.try_get("behind_us")?,
        refusals: row.try_get("refusals")?,
    })
}
