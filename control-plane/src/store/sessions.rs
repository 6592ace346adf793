//! Where people are signed in. Credentials are stored as hashes.
//!
//! It must not know how anybody signs in.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::{Store, StoreError, Tx};

/// A session as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionRow {
    /// The hash of its credential, in hexadecimal.
    pub hash: String,
    /// The id by which people name it.
    pub id: String,
    /// Whose it is.
    pub uid: String,
    /// The number of the contract's `SignInMethod`.
    pub method: i32,
    /// The time of the sign-in.
    pub create_us: i64,
    /// The time of the last use, to the minute.
    pub seen_us: i64,
    /// The time of its end, however much it is used.
    pub expire_us: i64,
    /// The address from which they signed in.
    pub address: String,
    /// What they signed in with, as it says itself.
    pub agent: String,
}

impl Store {
    /// Finds a session by the hash of its credential.
    pub async fn session(&self, hash: &str) -> Result<Option<SessionRow>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM sessions WHERE hash = $1").bind(hash).fetch_optional(self.pool());
        row.await?.as_ref().map(read).transpose()
    }

    /// Lists the sessions of somebody that have not ended, the newest first.
    pub async fn sessions_of(
        &self,
        uid: &str,
        now_us: i64,
        limit: i64,
    ) -> Result<Vec<SessionRow>, StoreError> {
        sqlx::query(
            "SELECT * FROM sessions WHERE uid = $1 AND expires > $2 ORDER BY created DESC, id LIMIT $3",
        )
        .bind(uid)
        .bind(now_us)
        .bind(limit)
        .fetch_all(self.pool())
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// Notes that a session was used.
    pub async fn touch_session(&self, hash: &str, now_us: i64) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        sqlx::query("UPDATE sessions SET seen = $2 WHERE hash = $1 AND seen < $2")
            .bind(hash)
            .bind(now_us)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Forgets sessions that have ended, or were not used since `idle_us`.
    pub async fn forget_sessions(&self, now_us: i64, idle_us: i64) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        sqlx::query("DELETE FROM sessions WHERE expires <= $1 OR seen < $2")
            .bind(now_us)
            .bind(idle_us)
            .execute(self.pool())
            .await?;
        Ok(())
    }
}

impl Tx {
    /// Begins a session. Of more than `most` of a person, the oldest end.
    pub async fn add_session(&mut self, session: &SessionRow, most: i64) -> Result<(), StoreError> {
        insert(self.connection(), session).await?;
        trim(self.connection(), &session.uid, most).await?;
        self.aside = true;
        Ok(())
    }

    /// Ends all sessions of somebody but one. Empty: all.
    pub async fn delete_sessions(&mut self, uid: &str, but: &str) -> Result<(), StoreError> {
        self.note_person(uid).await?;
        sqlx::query("DELETE FROM sessions WHERE uid = $1 AND id <> $2")
            .bind(uid)
            .bind(but)
            .execute(self.connection())
            .await?;
        self.aside = true;
        Ok(())
    }

    /// Ends a session of somebody. Returns whether it was there.
    pub async fn delete_session(&mut self, uid: &str, id: &str) -> Result<bool, StoreError> {
        self.note_person(uid).await?;
        let done = sqlx::query("DELETE FROM sessions WHERE uid = $1 AND id = $2")
            .bind(uid)
            .bind(id)
            .execute(self.connection())
            .await?;
        self.aside = true;
        Ok(done.rows_affected() > 0)
    }
}

async fn insert(connection: &mut AnyConnection, session: &SessionRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sessions (hash, id, uid, method, created, seen, expires, address, agent) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(session.hash.as_str())
    .bind(session.id.as_str())
    .bind(session.uid.as_str())
    .bind(i64::from(session.method))
    .bind(session.create_us)
    .bind(session.seen_us)
    .bind(session.expire_us)
    .bind(session.address.as_str())
    .bind(session.agent.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

async fn trim(connection: &mut AnyConnection, uid: &str, most: i64) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM sessions WHERE uid = $1 AND hash NOT IN \
         (SELECT hash FROM sessions WHERE uid = $1 ORDER BY created DESC, id LIMIT $2)",
    )
    .bind(uid)
    .bind(most)
    .execute(connection)
    .await?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<SessionRow, StoreError> {
    let method: i64 = row.try_get("method")?;
    Ok(SessionRow {
        hash: row.try_get("hash")?,
        id: row.try_get("id")?,
        uid: row.try_get("uid")?,
        method: i32::try_from(method).unwrap_or_default(),
        create_us: row.try_get("created")?,
        seen_us: row.try_get("seen")?,
        expire_us: row.try_get("expires")?,
        address: row.try_get("address")?,
        agent: row.try_get("agent")?,
    })
}
