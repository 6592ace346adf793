//! Edges that enrolled, and the join tokens with which they do.
//!
//! It must not know streams: what is written about an edge is for `discovery` to say.

use sqlx::any::AnyRow;
use sqlx::{AnyPool, Row as _};

use super::Store;
use crate::clock;

/// An edge as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeRow {
    /// Its id.
    pub id: String,
    /// The time of enrolment, which tells an edge from a deleted one of the same id.
    pub enroll_us: i64,
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

    /// Stores an edge where it is new. Answers when it enrolled first.
    pub async fn enroll(&self, id: &str) -> sqlx::Result<i64> {
        let now = clock::now_us();
        sqlx::query(
            "INSERT INTO edges (id, enroll_us, replica, connection, beat_us, state_us, version, client_address, \
             sent_revision, answered_revision, acked_revision, behind_us, refusals) \
             VALUES ($1, $2, '', 0, 0, $2, '', '', 0, 0, 0, 0, $3) ON CONFLICT (id) DO NOTHING",
        )
        .bind(id)
        .bind(now)
        .bind([].as_slice() as &[u8])
        .execute(&self.pool)
        .await?;
        Ok(self.get(id).await?.map_or(now, |row| row.enroll_us))
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

    /// Writes where an edge stands. Answers whether that life of the edge still exists.
    pub async fn report(&self, row: &EdgeRow) -> sqlx::Result<bool> {
        let done = sqlx::query(
            "UPDATE edges SET replica = $3, connection = $4, beat_us = $5, state_us = $6, version = $7, \
             client_address = $8, sent_revision = $9, answered_revision = $10, acked_revision = $11, \
             behind_us = $12, refusals = $13, sibling_address = $14, sibling_certificate = $15 \
             WHERE id = $1 AND enroll_us = $2",
        )
        .bind(row.id.as_str())
        .bind(row.enroll_us)
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

    /// Stores the hash of a join token, and forgets those that have ended.
    pub async fn add_join_token(&self, hash: &str, expire_us: i64, max_uses: i64) -> sqlx::Result<()> {
        let now = clock::now_us();
        sqlx::query("DELETE FROM join_tokens WHERE expire_us < $1").bind(now).execute(&self.pool).await?;
        sqlx::query(
            "INSERT INTO join_tokens (hash, create_us, expire_us, max_uses, uses) VALUES ($1, $2, $3, $4, 0)",
        )
        .bind(hash)
        .bind(now)
        .bind(expire_us)
        .bind(max_uses)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Uses a join token once. Answers whether it may be used.
    pub async fn use_join_token(&self, hash: &str) -> sqlx::Result<bool> {
        let done = sqlx::query(
            "UPDATE join_tokens SET uses = uses + 1 \
             WHERE hash = $1 AND expire_us > $2 AND (max_uses = 0 OR uses < max_uses)",
        )
        .bind(hash)
        .bind(clock::now_us())
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
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

fn read(row: &AnyRow) -> sqlx::Result<EdgeRow> {
    Ok(EdgeRow {
        id: row.try_get("id")?,
        enroll_us: row.try_get("enroll_us")?,
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
