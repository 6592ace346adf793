//! The oldest records go, and the chain begins after them.

use sqlx::{AnyConnection, Connection as _, Row as _};

use super::super::{Store, StoreError};
use super::chain::head;

/// Records that are removed at once: others who append wait meanwhile.
const AT_ONCE: i64 = 5_000;

impl Store {
    /// Removes records from before `before_us`, and the oldest past `most`; the last one stays. `seal` signs where the chain begins
    /// then. Returns how many were removed.
    pub async fn shorten_audit<E: From<StoreError>>(
        &self,
        before_us: i64,
        most: i64,
        seal: impl Fn(i64, &str) -> Result<String, E>,
    ) -> Result<i64, E> {
        let mut removed = 0;
        loop {
            let now = self.shorten_once(before_us, most, &seal).await?;
            removed += now;
            if now < AT_ONCE {
                return Ok(removed);
            }
        }
    }

    async fn shorten_once<E: From<StoreError>>(
        &self,
        before_us: i64,
        most: i64,
        seal: &impl Fn(i64, &str) -> Result<String, E>,
    ) -> Result<i64, E> {
        let _turn = self.turn().await;
        let mut connection = self.pool().acquire().await.map_err(StoreError::from)?;
        let mut transaction = connection.begin().await.map_err(StoreError::from)?;
        let Some((old, first)) = cut(&mut transaction, before_us, most).await.map_err(StoreError::from)?
        else {
            return Ok(0);
        };
        let row = sqlx::query("SELECT hash FROM audit WHERE sequence = $1").bind(first - 1);
        let row = row.fetch_one(&mut *transaction).await.map_err(StoreError::from)?;
        let hash: String = row.try_get("hash").map_err(StoreError::from)?;
        let signature = seal(first, &hash)?;
        remove(&mut transaction, first, &hash, &signature).await.map_err(StoreError::from)?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(first - old)
    }

    /// Signs anew where the chain begins, before the key is gone with which it was signed.
    pub async fn reseal_audit_start(&self, first: i64, seal: &str) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        sqlx::query("UPDATE audit_head SET first_seal = $2 WHERE id = 1 AND first = $1")
            .bind(first)
            .bind(seal)
            .execute(self.pool())
            .await?;
        Ok(())
    }
}

/// The first record that there is, and the first that is to be kept. `None`: all are.
async fn cut(connection: &mut AnyConnection, before_us: i64, most: i64) -> sqlx::Result<Option<(i64, i64)>> {
    // A write, so that nobody appends meanwhile.
    let row = sqlx::query("UPDATE audit_head SET sequence = sequence WHERE id = 1 RETURNING *");
    let head = head(&row.fetch_one(&mut *connection).await?)?;
    // By number, and not by the index of times: the first one is nearly always young.
    let young = sqlx::query("SELECT sequence FROM audit WHERE +time_us >= $1 ORDER BY sequence LIMIT 1")
        .bind(before_us)
        .fetch_optional(connection)
        .await?;
    let young = young.map_or(Ok(head.sequence), |row| row.try_get::<i64, _>("sequence"))?;
    let wanted = young.max(head.sequence.saturating_sub(most) + 1).min(head.sequence);
    let first = wanted.min(head.first + AT_ONCE);
    Ok((first > head.first).then_some((head.first, first)))
}

async fn remove(connection: &mut AnyConnection, first: i64, hash: &str, seal: &str) -> sqlx::Result<()> {
    for sql in ["DELETE FROM audit WHERE sequence < $1", "DELETE FROM audit_seals WHERE sequence < $1"] {
        sqlx::query(sql).bind(first).execute(&mut *connection).await?;
    }
    sqlx::query("UPDATE audit_head SET first = $1, first_hash = $2, first_seal = $3 WHERE id = 1")
        .bind(first)
        .bind(hash)
        .bind(seal)
        .execute(connection)
        .await
        .map(drop)
}
