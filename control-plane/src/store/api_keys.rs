//! API keys: stored as hashes, found by their public ids.
//!
//! It must not know what they let do.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Store, StoreError, Tx};

/// An API key as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// The id, which is part of the key.
    pub id: String,
    /// The hash of the whole key, in hexadecimal.
    pub hash: String,
    /// Whose it is.
    pub uid: String,
    /// What it is for.
    pub title: String,
    /// `roles/{role}`: what it lets do at most. Empty: all that its principal may do.
    pub role: String,
    /// The time of creation.
    pub create_us: i64,
    /// The time of its end. 0: never.
    pub expire_us: i64,
    /// The time of the last use, to the minute. 0: never.
    pub seen_us: i64,
    /// The address of the last use.
    pub address: String,
}

impl Store {
    /// Finds an API key by its id.
    pub async fn api_key(&self, id: &str) -> Result<Option<ApiKeyRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM api_keys WHERE id = $1").bind(id).fetch_optional(self.pool());
        row.await?.as_ref().map(read).transpose()
    }

    /// Lists API keys of somebody, the newest first: those after a key that was created then.
    pub async fn api_keys_of(
        &self,
        uid: &str,
        after: Option<(i64, &str)>,
        limit: i64,
    ) -> Result<Vec<ApiKeyRow>, StoreError> {
        let (created, id) = after.unwrap_or((i64::MAX, ""));
        sqlx::query(
            "SELECT * FROM api_keys WHERE uid = $1 AND (created < $2 OR (created = $2 AND id > $3)) \
             ORDER BY created DESC, id LIMIT $4",
        )
        .bind(uid)
        .bind(created)
        .bind(id)
        .bind(limit)
        .fetch_all(self.pool())
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// Notes that an API key was used.
    pub async fn touch_api_key(&self, id: &str, now_us: i64, address: &str) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        sqlx::query("UPDATE api_keys SET seen = $2, address = $3 WHERE id = $1 AND seen < $2")
            .bind(id)
            .bind(now_us)
            .bind(address)
            .execute(self.pool())
            .await?;
        Ok(())
    }
}

impl Tx {
    /// Ends all API keys of somebody. Returns how many there were.
    pub async fn delete_api_keys_of(&mut self, uid: &str) -> Result<u64, StoreError> {
        self.note_person(uid).await?;
        let done = sqlx::query("DELETE FROM api_keys WHERE uid = $1").bind(uid);
        let count = done.execute(self.connection()).await?.rows_affected();
        self.aside = true;
        Ok(count)
    }

    /// The number of API keys of somebody.
    pub async fn count_api_keys_of(&mut self, uid: &str) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT count(*) AS count FROM api_keys WHERE uid = $1").bind(uid);
        Ok(row.fetch_one(self.connection()).await?.try_get("count")?)
    }

    /// Stores a new API key, unless its principal has `most` of them. Returns whether it is stored.
    pub async fn add_api_key(&mut self, key: &ApiKeyRow, most: i64) -> Result<bool, StoreError> {
        self.note_person(&key.uid).await?;
        let done = sqlx::query(
            "INSERT INTO api_keys (id, hash, uid, title, role, created, expires, seen, address) \
             SELECT $1, $2, $3, $4, $5, $6, $7, 0, '' \
             WHERE (SELECT count(*) FROM api_keys WHERE uid = $3) < $8",
        )
        .bind(key.id.as_str())
        .bind(key.hash.as_str())
        .bind(key.uid.as_str())
        .bind(key.title.as_str())
        .bind(key.role.as_str())
        .bind(key.create_us)
        .bind(key.expire_us)
        .bind(most)
        .execute(self.connection())
        .await?;
        self.aside = true;
        Ok(done.rows_affected() > 0)
    }

    /// Ends an API key of somebody. Returns whether it was there.
    pub async fn delete_api_key(&mut self, uid: &str, id: &str) -> Result<bool, StoreError> {
        self.note_person(uid).await?;
        let done = sqlx::query("DELETE FROM api_keys WHERE uid = $1 AND id = $2")
            .bind(uid)
            .bind(id)
            .execute(self.connection())
            .await?;
        self.aside = true;
        Ok(done.rows_affected() > 0)
    }
}

fn read(row: &AnyRow) -> Result<ApiKeyRow, StoreError> {
    Ok(ApiKeyRow {
        id: row.try_get("id")?,
        hash: row.try_get("hash")?,
        uid: row.try_get("uid")?,
        title: row.try_get("title")?,
        role: row.try_get("role")?,
        create_us: row.try_get("created")?,
        expire_us: row.try_get("expires")?,
        seen_us: row.try_get("seen")?,
        address: row.try_get("address")?,
    })
}
