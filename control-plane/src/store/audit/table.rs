//! Records that come in batches, what is looked up, and seals.

use prost_types::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use trunkline::admin::v1::{AuditFilter, AuditRecord, ReportAuditRequest};

use super::super::{Store, StoreError};
use super::chain::{StoredRecord, append};
use crate::clock;

/// A signature over the chain up to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSeal {
    /// The record.
    pub sequence: i64,
    /// When it was made.
    pub time_us: i64,
    /// The signature, with what it is over.
    pub seal: String,
}

/// Which records are looked up.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// What they must match.
    pub filter: AuditFilter,
    /// Only those before this one; 0: all.
    pub before: i64,
    /// Whether the newest come first.
    pub newest_first: bool,
    /// How many.
    pub limit: i64,
}

const COLUMNS: &str = "sequence, time_us, kind, actor, action, resource, reason, body, hash";

impl Store {
    /// Appends records.
    pub async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        let mut connection = self.pool().acquire().await?;
        let mut transaction = connection.begin().await?;
        let gap = append(&mut transaction, records, self.audit_health()).await?;
        transaction.commit().await?;
        gap.said();
        Ok(())
    }

    /// Appends a batch of an edge that was not stored before. Answers up to where the run is stored.
    pub async fn append_audit_of(&self, edge: &str, batch: ReportAuditRequest) -> Result<i64, StoreError> {
        let _turn = self.turn().await;
        let mut connection = self.pool().acquire().await?;
        let mut transaction = connection.begin().await?;
        // The first statement writes, and holds the run: the same batch, sent twice at once, waits here.
        let fresh = sqlx::query(
            "INSERT INTO audit_runs (edge, run_id, sequence, seen_us) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (edge, run_id) DO UPDATE SET sequence = $3, seen_us = $4 WHERE audit_runs.sequence < $3",
        )
        .bind(edge)
        .bind(batch.run_id.as_str())
        .bind(batch.sequence)
        .bind(clock::now_us())
        .execute(&mut *transaction)
        .await?
        .rows_affected()
            > 0;
        if !fresh {
            let row = sqlx::query("SELECT sequence FROM audit_runs WHERE edge = $1 AND run_id = $2")
                .bind(edge)
                .bind(batch.run_id.as_str())
                .fetch_one(&mut *transaction)
                .await?;
            return Ok(row.try_get("sequence")?);
        }
        if batch.records.is_empty() {
            transaction.commit().await?;
            return Ok(batch.sequence);
        }
        let gap = append(&mut transaction, batch.records, self.audit_health()).await?;
        transaction.commit().await?;
        gap.said();
        Ok(batch.sequence)
    }

    /// Looks records up.
    pub async fn audit_records(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
        let filter = &query.filter;
        let order = if query.newest_first { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT {COLUMNS} FROM audit WHERE sequence > $1 AND sequence < $2 \
             AND ($3 = '' OR actor = $3) \
             AND ($4 = '' OR action = $4 OR substr(action, length(action) - length($4)) = '/' || $4) \
             AND ($5 = '' OR resource = $5 OR substr(resource, 1, length($5) + 1) = $5 || '/') \
             AND ($6 = 0 OR kind = $6) AND ($7 = '' OR reason = $7) AND time_us >= $8 AND time_us < $9 \
             ORDER BY sequence {order} LIMIT $10"
        );
        let time = |time: &Option<Timestamp>, absent| time.as_ref().map_or(absent, clock::micros);
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(filter.after_sequence)
            .bind(if query.before > 0 { query.before } else { i64::MAX })
            .bind(filter.actor.as_str())
            .bind(filter.action.as_str())
            .bind(filter.resource.as_str())
            .bind(i64::from(filter.kind))
            .bind(filter.reason.as_str())
            .bind(time(&filter.start_time, i64::MIN))
            .bind(time(&filter.end_time, i64::MAX))
            .bind(query.limit)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| StoredRecord::read(row)?.message()).collect()
    }

    /// The records from one on, as they are stored.
    pub async fn audit_page(&self, from: i64, limit: i64) -> Result<Vec<StoredRecord>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM audit WHERE sequence >= $1 ORDER BY sequence LIMIT $2");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(from).bind(limit).fetch_all(self.pool()).await?;
        Ok(rows.iter().map(StoredRecord::read).collect::<sqlx::Result<_>>()?)
    }

    /// All seals, the oldest first.
    pub async fn audit_seals(&self) -> Result<Vec<StoredSeal>, StoreError> {
        let rows = sqlx::query("SELECT sequence, time_us, seal FROM audit_seals ORDER BY sequence");
        Ok(rows.fetch_all(self.pool()).await?.iter().map(seal).collect::<sqlx::Result<_>>()?)
    }

    /// The seal of the highest record. `None`: there is none.
    pub async fn last_audit_seal(&self) -> Result<Option<StoredSeal>, StoreError> {
        let sql = "SELECT sequence, time_us, seal FROM audit_seals ORDER BY sequence DESC LIMIT 1";
        let row = sqlx::query(sql).fetch_optional(self.pool()).await?;
        Ok(row.as_ref().map(seal).transpose()?)
    }
}

fn seal(row: &AnyRow) -> sqlx::Result<StoredSeal> {
    Ok(StoredSeal {
        sequence: row.try_get("sequence")?,
        time_us: row.try_get("time_us")?,
        seal: row.try_get("seal")?,
    })
}
