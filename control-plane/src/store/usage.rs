//! Counted calls: batches from edges, stored once each, summed by minute.
//!
//! It must not know how edges count.

use std::collections::BTreeMap;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool, Connection, Row as _};
use trunkline::telemetry::v1::{ReportUsageRequest, UsageRecord};

use super::Store;
use crate::clock;

const MINUTE_US: i64 = 60_000_000;
/// The most that a row can count, whatever edges report: so many rows as 131,072 minutes (91 days) have add up without an
/// overflow.
const MAX_COUNT: i64 = 1 << 46;

/// A query of counted calls.
#[derive(Debug, Clone, Default)]
pub struct UsageQuery {
    /// The beginning of the range.
    pub start_us: i64,
    /// Until when.
    pub end_us: i64,
    /// Only this server; empty: all.
    pub server: String,
    /// Only this token; empty: all.
    pub token: String,
    /// The maximum number of sums: those with the most calls.
    pub limit: i64,
}

/// The tables.
#[derive(Debug, Clone)]
pub struct UsageTable {
    pool: AnyPool,
}

type Key<'a> = (&'a str, &'a str, &'a str, &'a str, i32);

impl UsageTable {
    /// The tables of this database.
    pub fn new(store: &Store) -> Self {
        Self { pool: store.pool().clone() }
    }

    /// Stores a batch that was not stored before. Answers up to where the run is stored.
    pub async fn store(&self, edge: &str, batch: &ReportUsageRequest) -> sqlx::Result<i64> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        // The first statement writes, and holds the run: the same batch, sent twice at once, waits here.
        let fresh = sqlx::query(
            "INSERT INTO usage_runs (edge, run_id, sequence, seen_us) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (edge, run_id) DO UPDATE SET sequence = $3, seen_us = $4 WHERE usage_runs.sequence < $3",
        )
        .bind(edge)
        .bind(batch.run_id.as_str())
        .bind(batch.sequence)
        .bind(clock::now_us())
        .execute(&mut *transaction)
        .await?
        .rows_affected()
            > 0;
        if fresh {
            let end = batch.end_time.as_ref().map_or_else(clock::now_us, clock::micros);
            let minute = end.min(clock::now_us()).div_euclid(MINUTE_US) * MINUTE_US;
            for record in summed(&batch.records).values() {
                add(&mut transaction, minute, record).await?;
            }
            transaction.commit().await?;
            return Ok(batch.sequence);
        }
        let row = sqlx::query("SELECT sequence FROM usage_runs WHERE edge = $1 AND run_id = $2")
            .bind(edge)
            .bind(batch.run_id.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        row.try_get("sequence")
    }

    /// Sums, those with the most calls first.
    pub async fn query(&self, query: &UsageQuery) -> sqlx::Result<Vec<UsageRecord>> {
        sqlx::query(
            "SELECT server, token, method, target, outcome, CAST(SUM(calls) AS BIGINT) AS calls, \
             CAST(SUM(duration_us) AS BIGINT) AS duration_us, \
             CAST(SUM(request_bytes) AS BIGINT) AS request_bytes, \
             CAST(SUM(response_bytes) AS BIGINT) AS response_bytes \
             FROM usage_sums WHERE minute_us >= $1 AND minute_us < $2 \
             AND ($3 = '' OR server = $3) AND ($4 = '' OR token = $4) \
             GROUP BY server, token, method, target, outcome \
             ORDER BY SUM(calls) DESC, server, token, method, target, outcome LIMIT $5",
        )
        .bind(query.start_us.div_euclid(MINUTE_US) * MINUTE_US)
        .bind(query.end_us)
        .bind(query.server.as_str())
        .bind(query.token.as_str())
        .bind(query.limit)
        .fetch_all(&self.pool)
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// Forgets what is older than `before_us`, so that the tables do not grow for ever.
    pub async fn forget(&self, before_us: i64) -> sqlx::Result<()> {
        for statement in
            ["DELETE FROM usage_sums WHERE minute_us < $1", "DELETE FROM usage_runs WHERE seen_us < $1"]
        {
            sqlx::query(statement).bind(before_us).execute(&self.pool).await?;
        }
        Ok(())
    }
}

/// One record for each key, so that a batch writes each row once.
fn summed(records: &[UsageRecord]) -> BTreeMap<Key<'_>, UsageRecord> {
    let mut sums: BTreeMap<Key<'_>, UsageRecord> = BTreeMap::new();
    for record in records {
        let key = (&*record.server, &*record.token, &*record.method, &*record.target, record.outcome);
        let Some(sum) = sums.get_mut(&key) else {
            sums.insert(key, record.clone());
            continue;
        };
        sum.calls = sum.calls.saturating_add(record.calls);
        sum.duration_us = sum.duration_us.saturating_add(record.duration_us);
        sum.request_bytes = sum.request_bytes.saturating_add(record.request_bytes);
        sum.response_bytes = sum.response_bytes.saturating_add(record.response_bytes);
    }
    sums
}

async fn add(connection: &mut AnyConnection, minute_us: i64, record: &UsageRecord) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO usage_sums (minute_us, server, token, method, target, outcome, calls, duration_us, \
         request_bytes, response_bytes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (minute_us, server, token, method, target, outcome) DO UPDATE SET \
         calls = CASE WHEN usage_sums.calls > $11 - $7 THEN $11 ELSE usage_sums.calls + $7 END, \
         duration_us = CASE WHEN usage_sums.duration_us > $11 - $8 THEN $11 ELSE usage_sums.duration_us + $8 END, \
         request_bytes = CASE WHEN usage_sums.request_bytes > $11 - $9 THEN $11 ELSE usage_sums.request_bytes + $9 END, \
         response_bytes = CASE WHEN usage_sums.response_bytes > $11 - $10 THEN $11 ELSE usage_sums.response_bytes + $10 END",
    )
    .bind(minute_us)
    .bind(record.server.as_str())
    .bind(record.token.as_str())
    .bind(record.method.as_str())
    .bind(record.target.as_str())
    .bind(i64::from(record.outcome))
    .bind(record.calls.clamp(0, MAX_COUNT))
    .bind(record.duration_us.clamp(0, MAX_COUNT))
    .bind(record.request_bytes.clamp(0, MAX_COUNT))
    .bind(record.response_bytes.clamp(0, MAX_COUNT))
    .bind(MAX_COUNT)
    .execute(connection)
    .await?;
    Ok(())
}

fn read(row: &AnyRow) -> sqlx::Result<UsageRecord> {
    let outcome: i64 = row.try_get("outcome")?;
    Ok(UsageRecord {
        server: row.try_get("server")?,
        token: row.try_get("token")?,
        method: row.try_get("method")?,
        target: row.try_get("target")?,
        outcome: i32::try_from(outcome).unwrap_or_default(),
        calls: row.try_get("calls")?,
        duration_us: row.try_get("duration_us")?,
        request_bytes: row.try_get("request_bytes")?,
        response_bytes: row.try_get("response_bytes")?,
    })
}
