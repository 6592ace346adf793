//! Seals are numbered in the order in which they are made, whichever replica makes them.

use sqlx::{AnyConnection, Connection as _, Row as _};

use super::super::{Store, StoreError};
use super::chain::{AuditHead, head};

impl Store {
    /// Seals the last record: `seal` signs where the chain ends, and the number of the seal. One over the same record is replaced, and keeps
    /// its number. Returns what was sealed, with the number.
    pub async fn seal_audit<E: From<StoreError>>(
        &self,
        now_us: i64,
        seal: impl Fn(&AuditHead) -> Result<String, E>,
    ) -> Result<AuditHead, E> {
        let _turn = self.turn().await;
        let mut connection = self.pool().acquire().await.map_err(StoreError::from)?;
        let mut transaction = connection.begin().await.map_err(StoreError::from)?;
        let head = count(&mut transaction).await.map_err(StoreError::from)?;
        let signature = seal(&head)?;
        put(&mut transaction, head.sequence, now_us, &signature).await.map_err(StoreError::from)?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(head)
    }
}

/// Where the chain ends, with the number of its next seal, which is counted.
async fn count(connection: &mut AnyConnection) -> sqlx::Result<AuditHead> {
    // A write, so that nobody else appends or seals meanwhile.
    let row = sqlx::query("UPDATE audit_head SET sequence = sequence WHERE id = 1 RETURNING *");
    let now = head(&row.fetch_one(&mut *connection).await?)?;
    let same =
        sqlx::query("SELECT count(*) AS sealed FROM audit_seals WHERE sequence = $1").bind(now.sequence);
    let same: i64 = same.fetch_one(&mut *connection).await?.try_get("sealed")?;
    let is_replaced = same > 0 && now.seals > 0;
    let seals = if is_replaced { now.seals } else { now.seals + 1 };
    sqlx::query("UPDATE audit_head SET seals = $1 WHERE id = 1").bind(seals).execute(connection).await?;
    Ok(AuditHead { seals, ..now })
}

async fn put(connection: &mut AnyConnection, sequence: i64, now_us: i64, seal: &str) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO audit_seals (sequence, time_us, seal) VALUES ($1, $2, $3) \
         ON CONFLICT (sequence) DO UPDATE SET time_us = $2, seal = $3",
    )
    .bind(sequence)
    .bind(now_us)
    .bind(seal)
    .execute(connection)
    .await
    .map(drop)
}
