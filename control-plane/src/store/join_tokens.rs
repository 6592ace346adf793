//! Join tokens: stored as hashes, listed and deleted by people.
//!
//! It must not know how edges enrol with them.

use serde_json::json;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::audit::Deed;
use super::{Store, StoreError};

/// Ended join tokens are listed for so long: a week.
const KEPT_US: i64 = 7 * 86_400_000_000;
/// Hexadecimal digits of a hash that are the id of its token.
const ID_LEN: usize = 12;

/// A join token as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinTokenRow {
    /// The id by which people name it.
    pub id: String,
    /// The time of creation.
    pub create_us: i64,
    /// The time of its end.
    pub expire_us: i64,
    /// The number of edges that may enrol with it. 0: any number.
    pub max_uses: i64,
    /// The number of edges that have enrolled with it.
    pub uses: i64,
    /// The id of the only edge that may enrol with it. Empty: any whose id is not enrolled.
    pub edge: String,
}

/// A join token to be stored.
#[derive(Debug, Clone)]
pub struct NewJoinToken<'a> {
    /// The hash of the token, in hexadecimal.
    pub hash: &'a str,
    /// The time of its end.
    pub expire_us: i64,
    /// The number of edges that may enrol with it. 0: any number.
    pub max_uses: i64,
    /// The id of the only edge that may enrol with it. Empty: any whose id is not enrolled.
    pub edge: &'a str,
}

/// The table.
#[derive(Debug, Clone)]
pub struct JoinTokens {
    store: Store,
}

/// Derives the id of a join token from its hash: so also one that was deleted can be named in the log.
pub fn id_of(hash: &str) -> &str {
    hash.get(..ID_LEN).unwrap_or(hash)
}

impl JoinTokens {
    /// The table of this database.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone() }
    }

    /// Deletes the tokens with which the edge of this id alone enrols as often as it likes.
    pub async fn delete_unlimited_of(&self, edge: &str) -> sqlx::Result<()> {
        let _turn = self.store.turn().await;
        sqlx::query("DELETE FROM join_tokens WHERE edge = $1 AND max_uses = 0")
            .bind(edge)
            .execute(self.store.pool())
            .await?;
        Ok(())
    }

    /// Stores a join token, and forgets those that ended a week ago.
    pub async fn add(&self, new: &NewJoinToken<'_>) -> Result<(), StoreError> {
        let mut tx = self.store.write().await?;
        let now = tx.now_us();
        sqlx::query("DELETE FROM join_tokens WHERE expire_us < $1")
            .bind(now - KEPT_US)
            .execute(tx.connection())
            .await?;
        sqlx::query(
            "INSERT INTO join_tokens (id, hash, create_us, expire_us, max_uses, uses, edge) \
             VALUES ($1, $2, $3, $4, $5, 0, $6)",
        )
        .bind(id_of(new.hash))
        .bind(new.hash)
        .bind(now)
        .bind(new.expire_us)
        .bind(new.max_uses)
        .bind(new.edge)
        .execute(tx.connection())
        .await?;
        let after = json!({ "expireUs": new.expire_us, "maxUses": new.max_uses, "edge": new.edge });
        tx.record_aside(Deed {
            resource: format!("joinTokens/{}", id_of(new.hash)),
            after: Some(after),
            ..Deed::default()
        });
        tx.commit().await?;
        Ok(())
    }

    /// Finds a join token by its id.
    pub async fn get(&self, id: &str) -> sqlx::Result<Option<JoinTokenRow>> {
        let row =
            sqlx::query("SELECT * FROM join_tokens WHERE id = $1").bind(id).fetch_optional(self.store.pool());
        row.await?.as_ref().map(read).transpose()
    }

    /// Lists join tokens by id, those after `after`.
    pub async fn list(&self, after: &str, limit: i64) -> sqlx::Result<Vec<JoinTokenRow>> {
        sqlx::query("SELECT * FROM join_tokens WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after)
            .bind(limit)
            .fetch_all(self.store.pool())
            .await?
            .iter()
            .map(read)
            .collect()
    }

    /// Lists the edges whose present enrolments were made with the join tokens from `first` to `last`, by id. Each comes with
    /// the id of its join token.
    pub async fn enrolled_edges(&self, first: &str, last: &str) -> sqlx::Result<Vec<(String, String)>> {
        sqlx::query(
            "SELECT join_token, id FROM edges WHERE join_token >= $1 AND join_token <= $2 ORDER BY id",
        )
        .bind(first)
        .bind(last)
        .fetch_all(self.store.pool())
        .await?
        .iter()
        .map(|row| Ok((row.try_get("join_token")?, row.try_get("id")?)))
        .collect()
    }

    /// Forgets a join token. Answers whether it was there.
    pub async fn delete(&self, id: &str) -> Result<bool, StoreError> {
        let mut tx = self.store.write().await?;
        let row = sqlx::query("DELETE FROM join_tokens WHERE id = $1 RETURNING *").bind(id);
        let Some(row) = row.fetch_optional(tx.connection()).await?.as_ref().map(read).transpose()? else {
            return Ok(false);
        };
        let before = json!({ "expireUs": row.expire_us, "maxUses": row.max_uses, "edge": row.edge });
        tx.record_aside(Deed {
            resource: format!("joinTokens/{id}"),
            before: Some(before),
            ..Deed::default()
        });
        tx.commit().await?;
        Ok(true)
    }
}

pub(super) fn read(row: &AnyRow) -> sqlx::Result<JoinTokenRow> {
    Ok(JoinTokenRow {
        id: row.try_get("id")?,
        create_us: row.try_get("create_us")?,
        expire_us: row.try_get("expire_us")?,
        max_uses: row.try_get("max_uses")?,
        uses: row.try_get("uses")?,
        edge: row.try_get("edge")?,
    })
}
