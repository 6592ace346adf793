//! What people and service accounts have lost, for as long as a bearer of theirs may say that they have it.
//!
//! It must not know what bearers are.

use std::time::Duration;

use sqlx::Row as _;

use super::{Store, StoreError, Tx};
use crate::clock;

/// No access bearer is valid for longer.
pub const LONGEST_BEARER: Duration = Duration::from_secs(12 * 3_600);
/// Beyond that, for clocks that differ.
const MARGIN: Duration = Duration::from_secs(600);

/// What somebody loses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Withdrawn {
    /// Everything: bearers of before are not valid.
    All,
    /// A pair of grants.
    Pair {
        /// The grant id of a role. Empty: every role in the team.
        role_gid: String,
        /// The grant id of a team. Empty: everywhere.
        team_gid: String,
    },
}

/// What somebody has lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WithdrawalRow {
    /// Whose.
    pub uid: String,
    /// Bearers of a lower epoch have lost it.
    pub epoch: i64,
    /// The grant id of a role. Empty: every role in the team. With `team` empty as well: everything.
    pub role: String,
    /// The grant id of a team. Empty: everywhere.
    pub team: String,
}

impl Tx {
    /// Takes something from somebody, on every edge that has this revision, whatever their bearers say.
    pub async fn withdraw(&mut self, uid: &str, what: Withdrawn) -> Result<(), StoreError> {
        self.withdraw_many(uid, &[what]).await
    }

    /// The same for several things at once.
    pub async fn withdraw_many(&mut self, uid: &str, what: &[Withdrawn]) -> Result<(), StoreError> {
        if what.is_empty() {
            return Ok(());
        }
        let epoch = self.next_epoch(uid).await?;
        let (revision, now_us) = (self.revision(), self.now_us());
        let expires = now_us + clock::duration_us(LONGEST_BEARER + MARGIN);
        for lost in what {
            let (role, team) = match lost {
                Withdrawn::All => ("", ""),
                Withdrawn::Pair { role_gid, team_gid } => (role_gid.as_str(), team_gid.as_str()),
            };
            sqlx::query(
                "insert into withdrawals (uid, epoch, role, team, revision, expires) values ($1, $2, $3, $4, $5, $6) \
                 on conflict (uid, epoch, role, team) do nothing",
            )
            .bind(uid)
            .bind(epoch)
            .bind(role)
            .bind(team)
            .bind(revision)
            .bind(expires)
            .execute(self.connection())
            .await?;
        }
        self.touch();
        Ok(())
    }

    /// Says that what somebody may do has changed.
    pub async fn touch_principal(&mut self, uid: &str) -> Result<(), StoreError> {
        let revision = self.revision();
        sqlx::query("update principals set revision = $1 where uid = $2")
            .bind(revision)
            .bind(uid)
            .execute(self.connection())
            .await?;
        self.touch();
        Ok(())
    }

    async fn next_epoch(&mut self, uid: &str) -> Result<i64, StoreError> {
        let revision = self.revision();
        let row = sqlx::query(
            "update principals set epoch = epoch + 1, revision = $1 where uid = $2 returning epoch",
        )
        .bind(revision)
        .bind(uid)
        .fetch_one(self.connection())
        .await?;
        Ok(row.try_get("epoch")?)
    }

    /// Forgets what was lost so long ago that no bearer can say otherwise. Answers how much that was.
    pub async fn forget_withdrawals(&mut self) -> Result<u64, StoreError> {
        let now_us = self.now_us();
        let done = sqlx::query("delete from withdrawals where expires < $1").bind(now_us);
        let count = done.execute(self.connection()).await?.rows_affected();
        if count > 0 {
            self.touch();
        }
        Ok(count)
    }
}

impl Store {
    /// What was lost after a revision.
    pub async fn withdrawals_since(&self, revision: i64) -> Result<Vec<WithdrawalRow>, StoreError> {
        let sql = "select uid, epoch, role, team from withdrawals where revision > $1 order by uid, epoch, role, team";
        let rows = sqlx::query(sql).bind(revision).fetch_all(self.pool()).await?;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(WithdrawalRow {
                uid: row.try_get("uid")?,
                epoch: row.try_get("epoch")?,
                role: row.try_get("role")?,
                team: row.try_get("team")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// How much is known to be lost.
    pub async fn withdrawal_count(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("select count(*) as count from withdrawals").fetch_one(self.pool()).await?;
        Ok(row.try_get("count")?)
    }

    /// Whether some of it is so old that it can be forgotten.
    pub async fn has_old_withdrawals(&self) -> Result<bool, StoreError> {
        let row = sqlx::query("select count(*) as count from withdrawals where expires < $1")
            .bind(clock::now_us())
            .fetch_one(self.pool())
            .await?;
        Ok(row.try_get::<i64, _>("count")? > 0)
    }
}
