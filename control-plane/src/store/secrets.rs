//! Sealed secrets: their bytes, and never what they mean or how they are opened.

use sqlx::any::AnyRow;
use sqlx::{Any, Executor, Row as _};
use trunkline::registry::v1::Upstream;

use super::{Store, StoreError, Tx};

/// A sealed secret of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// Whose.
    pub name: String,
    /// Identity of the life of the resource it belongs to.
    pub uid: String,
    /// Changes whenever the secret changes.
    pub version: String,
    /// The sealed secret. It names the key that opens it.
    pub sealed: Vec<u8>,
}

impl SecretRow {
    /// Whether it is the secret of an upstream as that was read: of the same life, and of the same version of its
    /// credential.
    pub fn is_of(&self, upstream: &Upstream) -> bool {
        let uid = upstream.meta.as_ref().map(|meta| meta.uid.as_str());
        let version = upstream.credential.as_ref().map(|credential| credential.version.as_str());
        uid == Some(&self.uid) && version == Some(&self.version)
    }
}

const SELECT: &str = "select name, uid, version, sealed from secrets";
const SELECT_ONE: &str = "select name, uid, version, sealed from secrets where name = $1";

impl Store {
    /// The secret of a resource.
    pub async fn secret(&self, name: &str) -> Result<Option<SecretRow>, StoreError> {
        one(self.pool(), name).await
    }

    /// All secrets.
    pub async fn secrets(&self) -> Result<Vec<SecretRow>, StoreError> {
        sqlx::query(SELECT).fetch_all(self.pool()).await?.iter().map(read).collect()
    }

    /// Replaces the sealed bytes of a secret, where they are still those that were read. It is the same secret.
    pub async fn reseal_secret(&self, name: &str, before: &[u8], after: &[u8]) -> Result<(), StoreError> {
        sqlx::query("update secrets set sealed = $3 where name = $1 and sealed = $2")
            .bind(name)
            .bind(before)
            .bind(after)
            .execute(self.pool())
            .await?;
        Ok(())
    }
}

impl Tx {
    /// The secret of a resource.
    pub async fn secret(&mut self, name: &str) -> Result<Option<SecretRow>, StoreError> {
        one(self.connection(), name).await
    }

    /// Stores a secret in place of the one before.
    pub async fn put_secret(&mut self, secret: &SecretRow) -> Result<(), StoreError> {
        sqlx::query(
            "insert into secrets (name, uid, version, sealed) values ($1, $2, $3, $4) \
             on conflict (name) do update set uid = excluded.uid, version = excluded.version, \
             sealed = excluded.sealed",
        )
        .bind(secret.name.as_str())
        .bind(secret.uid.as_str())
        .bind(secret.version.as_str())
        .bind(secret.sealed.as_slice())
        .execute(self.connection())
        .await?;
        self.touch();
        Ok(())
    }

    /// Forgets the secret of a resource.
    pub async fn delete_secret(&mut self, name: &str) -> Result<(), StoreError> {
        sqlx::query("delete from secrets where name = $1").bind(name).execute(self.connection()).await?;
        Ok(())
    }
}

async fn one<'c>(
    executor: impl Executor<'c, Database = Any>,
    name: &str,
) -> Result<Option<SecretRow>, StoreError> {
    sqlx::query(SELECT_ONE).bind(name).fetch_optional(executor).await?.as_ref().map(read).transpose()
}

fn read(row: &AnyRow) -> Result<SecretRow, StoreError> {
    Ok(SecretRow {
        name: row.try_get("name")?,
        uid: row.try_get("uid")?,
        version: row.try_get("version")?,
        sealed: row.try_get("sealed")?,
    })
}
