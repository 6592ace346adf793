//! The table of keys: data keys of the vault, signing keys of bearers, sealing keys of handles.
//!
//! It stores sealed bytes and must not know how to open them.

use sqlx::{AnyPool, Row};

use super::Store;
use crate::clock;

/// The purpose of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Seals secrets at rest.
    Data,
    /// Signs bearers and edge credentials.
    Signing,
    /// Seals the handles that edges give out.
    Sealing,
}

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Counts up from 1 within its purpose.
    pub id: u32,
    /// `kid` of a signing key; empty for others.
    pub name: String,
    /// The secret half, sealed.
    pub sealed: Vec<u8>,
    /// The public half, as JWK; empty for symmetric keys.
    pub public: String,
    /// The time of creation.
    pub create_us: i64,
    /// The time from which it is used for new values. `i64::MAX` until it is activated.
    pub active_us: i64,
}

/// A key to store.
#[derive(Debug)]
pub struct NewKey {
    /// See [`StoredKey`].
    pub name: String,
    /// See [`StoredKey`].
    pub sealed: Vec<u8>,
    /// See [`StoredKey`].
    pub public: String,
    /// See [`StoredKey`].
    pub active_us: i64,
}

/// The table.
#[derive(Debug, Clone)]
pub struct Keys {
    pool: AnyPool,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Signing => "signing",
            Self::Sealing => "sealing",
        }
    }
}

impl Keys {
    /// The table of this database.
    pub fn new(store: &Store) -> Self {
        Self { pool: store.pool().clone() }
    }

    /// All keys of a purpose, the oldest first.
    pub async fn list(&self, purpose: Purpose) -> sqlx::Result<Vec<StoredKey>> {
        let rows = sqlx::query(
            "SELECT id, name, sealed, public, create_us, active_us FROM keys WHERE purpose = $1 ORDER BY id",
        )
        .bind(purpose.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Stores a key under the next id. Where another replica takes that id first, its key stands and
    /// this one is dropped: both wanted the same.
    pub async fn add(&self, purpose: Purpose, key: &NewKey) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT INTO keys (purpose, id, name, sealed, public, create_us, active_us) \
             SELECT $1, COALESCE(MAX(id), 0) + 1, $2, $3, $4, $5, $6 FROM keys WHERE purpose = $1 \
             ON CONFLICT (purpose, id) DO NOTHING",
        )
        .bind(purpose.as_str())
        .bind(key.name.as_str())
        .bind(key.sealed.as_slice())
        .bind(key.public.as_str())
        .bind(clock::now_us())
        .bind(key.active_us)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Replaces the sealed half, when what seals it changed.
    pub async fn reseal(&self, purpose: Purpose, id: u32, sealed: &[u8]) -> sqlx::Result<()> {
        sqlx::query("UPDATE keys SET sealed = $3 WHERE purpose = $1 AND id = $2")
            .bind(purpose.as_str())
            .bind(i64::from(id))
            .bind(sealed)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Puts a key into use.
    pub async fn activate(&self, purpose: Purpose, id: u32, active_us: i64) -> sqlx::Result<()> {
        sqlx::query("UPDATE keys SET active_us = $3 WHERE purpose = $1 AND id = $2")
            .bind(purpose.as_str())
            .bind(i64::from(id))
            .bind(active_us)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Forgets a key for ever.
    pub async fn delete(&self, purpose: Purpose, id: u32) -> sqlx::Result<()> {
        sqlx::query("DELETE FROM keys WHERE purpose = $1 AND id = $2")
            .bind(purpose.as_str())
            .bind(i64::from(id))
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

fn read(row: &sqlx::any::AnyRow) -> sqlx::Result<StoredKey> {
    let id: i64 = row.try_get("id")?;
    Ok(StoredKey {
        id: u32::try_from(id).map_err(|error| sqlx::Error::Decode(error.into()))?,
        name: row.try_get("name")?,
        sealed: row.try_get("sealed")?,
        public: row.try_get("public")?,
        create_us: row.try_get("create_us")?,
        active_us: row.try_get("active_us")?,
    })
}
