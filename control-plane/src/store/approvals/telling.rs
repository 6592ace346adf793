//! What the webhook was not told of yet: the row itself is the queue, so that nothing is lost with a process.

use sqlx::{AssertSqlSafe, Row as _};

use super::super::{Store, StoreError};
use super::{ApprovalRow, COLUMNS, number};

/// An approval of whose state nobody was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Untold {
    /// The approval.
    pub row: ApprovalRow,
    /// Whether its end is the first that is to be told of it.
    pub is_first: bool,
    /// The tries that failed.
    pub tries: i64,
}

impl Store {
    /// Tells whether there is something to be told of.
    pub async fn has_untold_approvals(&self, now_us: i64) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM approvals WHERE told >= 0 AND told <> state AND tell_after <= $1 LIMIT 1";
        Ok(sqlx::query(sql).bind(now_us).fetch_optional(self.pool()).await?.is_some())
    }

    /// Those to be told of that have waited longest, so many at most.
    pub async fn untold_approvals(&self, now_us: i64, limit: i64) -> Result<Vec<Untold>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM approvals a WHERE a.told >= 0 AND a.told <> a.state AND a.tell_after <= $1 \
             ORDER BY a.tell_after, a.created LIMIT $2"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(now_us).bind(limit).fetch_all(self.pool()).await?;
        let read = |row: &sqlx::any::AnyRow| {
            let is_first = row.try_get::<i64, _>("told")? == 0;
            Ok(Untold { row: ApprovalRow::read(row)?, is_first, tries: row.try_get("tries")? })
        };
        rows.iter().map(read).collect()
    }

    /// Notes that the state of an approval was told, or is not going to be.
    pub async fn note_told(&self, row: &ApprovalRow) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        sqlx::query("UPDATE approvals SET told = $2, tell_after = 0, tries = 0 WHERE id = $1 AND told < $2")
            .bind(row.id.as_str())
            .bind(number(row.state))
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Notes that it could not be told, and is tried again from `after_us` on.
    pub async fn note_untold(&self, row: &ApprovalRow, tries: i64, after_us: i64) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        sqlx::query("UPDATE approvals SET tries = $3, tell_after = $4 WHERE id = $1 AND state = $2")
            .bind(row.id.as_str())
            .bind(number(row.state))
            .bind(tries)
            .bind(after_us)
            .execute(self.pool())
            .await?;
        Ok(())
    }
}
