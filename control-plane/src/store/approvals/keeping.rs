//! Approvals end, and are forgotten: a few at a time, because others who write wait meanwhile.

use prost::Message as _;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use trunkline::policy::v1::{Approval, ApprovalState};

use super::super::{Store, StoreError, Tx};
use super::{ApprovalRow, COLUMNS, number};

/// Rows that are written at once.
const AT_ONCE: i64 = 200;

impl Tx {
    /// Ends at once what waits or is approved for a principal that is gone: nobody makes these calls any more. Arguments go, and who is told of
    /// approvals is told of it, with the next round.
    pub async fn end_approvals_of(&mut self, principal: &str) -> Result<(), StoreError> {
        self.aside = true;
        let now_us = self.now_us();
        sqlx::query(
            "UPDATE approvals SET expires = $2 WHERE principal_uid = $1 AND state <= 2 AND expires > $2",
        )
        .bind(principal)
        .bind(now_us)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Ends at once what a person approved who may not any more, where it was not used yet: their account may have been somebody else's.
    pub async fn end_approvals_by(&mut self, uid: &str) -> Result<(), StoreError> {
        self.aside = true;
        let now_us = self.now_us();
        sqlx::query(
            "UPDATE approvals SET expires = $2 WHERE state = 2 AND expires > $2 \
             AND decided_by = (SELECT name FROM principals WHERE uid = $1)",
        )
        .bind(uid)
        .bind(now_us)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

impl Store {
    /// Tells whether there is anything to be ended or forgotten.
    pub async fn has_old_approvals(&self, now_us: i64, before_us: i64) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM approvals WHERE (state <= 2 AND expires <= $1) OR expires < $2 LIMIT 1";
        let found = sqlx::query(sql).bind(now_us).bind(before_us).fetch_optional(self.pool()).await?;
        Ok(found.is_some())
    }

    /// Ends those whose time is over. Nobody will decide about those that waited, so that their arguments are kept no longer. Returns how
    /// many ended.
    pub async fn end_approvals(&self, now_us: i64) -> Result<u64, StoreError> {
        let mut ended = 0;
        loop {
            let now = self.end_some_approvals(now_us).await?;
            ended += now;
            if now < AT_ONCE.unsigned_abs() {
                return Ok(ended);
            }
        }
    }

    async fn end_some_approvals(&self, now_us: i64) -> Result<u64, StoreError> {
        let _turn = self.turn().await;
        let mut connection = self.pool().acquire().await?;
        let mut transaction = connection.begin().await?;
        let sql = format!(
            "SELECT {COLUMNS} FROM approvals a WHERE a.state <= 2 AND a.expires <= $1 LIMIT {AT_ONCE}"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(now_us).fetch_all(&mut *transaction).await?;
        let mut ended = 0;
        for row in rows.iter().map(ApprovalRow::read) {
            let row = row?;
            let body = match row.state {
                ApprovalState::Pending => Approval { arguments_json: String::new(), ..row.body },
                _ => row.body,
            };
            let sql = "UPDATE approvals SET state = 5, body = $2, tell_after = 0, tries = 0 WHERE id = $1 AND state = $3";
            let done = sqlx::query(sql)
                .bind(row.id.as_str())
                .bind(body.encode_to_vec())
                .bind(number(row.state))
                .execute(&mut *transaction)
                .await?;
            ended += done.rows_affected();
        }
        transaction.commit().await?;
        Ok(ended)
    }

    /// Forgets those that ended before `before_us`, and the oldest that have ended past `most` of all.
    pub async fn forget_approvals(&self, now_us: i64, before_us: i64, most: i64) -> Result<(), StoreError> {
        let old = "SELECT id FROM approvals WHERE expires < $1 ORDER BY expires LIMIT $2";
        while self.forget_some_approvals(old, before_us, AT_ONCE).await? == AT_ONCE {}
        let all: i64 = sqlx::query("SELECT count(*) AS stored FROM approvals")
            .fetch_one(self.pool())
            .await?
            .try_get("stored")?;
        let mut over = all - most;
        let oldest = "SELECT id FROM approvals WHERE expires <= $1 OR state = 4 ORDER BY created LIMIT $2";
        while over > 0 {
            let forgotten = self.forget_some_approvals(oldest, now_us, over.min(AT_ONCE)).await?;
            if forgotten == 0 {
                break;
            }
            over -= forgotten;
        }
        Ok(())
    }

    async fn forget_some_approvals(
        &self,
        which: &'static str,
        at_us: i64,
        limit: i64,
    ) -> Result<i64, StoreError> {
        let _turn = self.turn().await;
        let sql = format!("DELETE FROM approvals WHERE id IN ({which})");
        let done = sqlx::query(AssertSqlSafe(sql)).bind(at_us).bind(limit).execute(self.pool()).await?;
        Ok(i64::try_from(done.rows_affected()).unwrap_or(i64::MAX))
    }

    /// Forgets the ids of webhooks that came before `before_us`.
    pub async fn forget_webhooks(&self, before_us: i64) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        sqlx::query("DELETE FROM approval_webhooks WHERE seen_us < $1")
            .bind(before_us)
            .execute(self.pool())
            .await?;
        Ok(())
    }
}
