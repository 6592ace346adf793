//! The oldest records go, and the chain begins after them.

use sqlx::{AnyConnection, Connection as _, Row as _};

use super::super::{Store, StoreError};
use super::chain::head;

/// Records that are removed at once: others who append wait meanwhile.
const AT_ONCE: i64 = 5_000;

/// Where the chain begins once its oldest records are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The first record that is kept.
    pub first: i64,
    /// The hash before it.
    pub hash: String,
    /// The last seal that goes. `None`: none does.
    pub last_seal: Option<String>,
    /// The signature over where the chain begins until now. Empty: nothing was removed yet.
    pub before: String,
}

impl Store {
    /// Removes records from before `before_us`, and the oldest past `most`; the last one stays. `seal` signs where the chain begins
    /// then. Returns how many were removed.
    pub async fn shorten_audit<E: From<StoreError>>(
        &self,
        before_us: i64,
        most: i64,
        seal: impl Fn(&Cut) -> Result<String, E>,
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
        seal: &impl Fn(&Cut) -> Result<String, E>,
    ) -> Result<i64, E> {
        let _turn = self.turn().await;
        let mut connection = self.pool().acquire().await.map_err(StoreError::from)?;
        let mut transaction = connection.begin().await.map_err(StoreError::from)?;
        let Some((old, cut)) = cut(&mut transaction, before_us, most).await.map_err(StoreError::from)? else {
            return Ok(0);
        };
        let signature = seal(&cut)?;
        remove(&mut transaction, &cut, &signature).await.map_err(StoreError::from)?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(cut.first - old)
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

/// The first record that there is, and where the chain is to begin. `None`: all are kept.
async fn cut(connection: &mut AnyConnection, before_us: i64, most: i64) -> sqlx::Result<Option<(i64, Cut)>> {
    // A write, so that nobody appends meanwhile.
    let row = sqlx::query("UPDATE audit_head SET sequence = sequence WHERE id = 1 RETURNING *");
    let head = head(&row.fetch_one(&mut *connection).await?)?;
    // By number, and not by the index of times: the first one is nearly always young.
    let young = sqlx::query("SELECT sequence FROM audit WHERE +time_us >= $1 ORDER BY sequence LIMIT 1")
        .bind(before_us)
        .fetch_optional(&mut *connection)
        .await?;
    let young = young.map_or(Ok(head.sequence), |row| row.try_get::<i64, _>("sequence"))?;
    let wanted = young.max(head.sequence.saturating_sub(most) + 1).min(head.sequence);
    let first = wanted.min(head.first + AT_ONCE);
    if first <= head.first {
        return Ok(None);
    }
    let row = sqlx::query("SELECT hash FROM audit WHERE sequence = $1").bind(first - 1);
    let hash = row.fetch_one(&mut *connection).await?.try_get("hash")?;
    let seal = sqlx::query("SELECT seal FROM audit_seals WHERE sequence < $1 ORDER BY sequence DESC LIMIT 1");
    let seal = seal.bind(first).fetch_optional(connection).await?;
    let last_seal = seal.map(|row| row.try_get("seal")).transpose()?;
    Ok(Some((head.first, Cut { first, hash, last_seal, before: head.first_seal })))
}

async fn remove(connection: &mut AnyConnection, cut: &Cut, seal: &str) -> sqlx::Result<()> {
    for sql in ["DELETE FROM audit WHERE sequence < $1", "DELETE FROM audit_seals WHERE sequence < $1"] {
        sqlx::query(sql).bind(cut.first).execute(&mut *connection).await?;
    }
    sqlx::query("UPDATE audit_head SET first = $1, first_hash = $2, first_seal = $3 WHERE id = 1")
        .bind(cut.first)
        .bind(cut.hash.as_str())
        .bind(seal)
        .execute(connection)
        .await
        .map(drop)
}
