//! Counted calls: batches from edges, stored once each, summed by minute.
//!
//! It must not know how edges count.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};
use tokio::sync::Mutex;
use trunkline::telemetry::v1::{ReportUsageRequest, UsageRecord};

use super::Store;
use super::values::{self, ROWS};
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
    store: Store,
    /// One batch at a time waits for the turn to write: whoever writes the registry waits for one batch at most, however many
    /// edges report.
    batch: Arc<Mutex<()>>,
}

type Key<'a> = (&'a str, &'a str, &'a str, &'a str, i32);

impl UsageTable {
    /// The tables of this database.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), batch: Arc::default() }
    }

    /// Stores a batch that was not stored before. Answers up to where the run is stored.
    pub async fn store(&self, edge: &str, batch: &ReportUsageRequest) -> sqlx::Result<i64> {
        let _batch = self.batch.lock().await;
        let _turn = self.store.turn().await;
        let mut connection = self.store.pool().acquire().await?;
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
            let sums: Vec<UsageRecord> = summed(&batch.records).into_values().collect();
            for rows in sums.chunks(ROWS) {
                add(&mut transaction, minute, rows).await?;
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
        .fetch_all(self.store.pool())
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// Forgets what is older than `before_us`, minute by minute, so that the tables do not grow for ever.
    pub async fn forget(&self, before_us: i64) -> sqlx::Result<()> {
        const OLDEST: &str = "DELETE FROM usage_sums WHERE minute_us < $1 \
                              AND minute_us = (SELECT MIN(minute_us) FROM usage_sums)";
        while self.forget_by(OLDEST, before_us).await? > 0 {}
        self.forget_by("DELETE FROM usage_runs WHERE seen_us < $1", before_us).await.map(drop)
    }

    async fn forget_by(&self, statement: &'static str, before_us: i64) -> sqlx::Result<u64> {
        let _turn = self.store.turn().await;
        Ok(sqlx::query(statement).bind(before_us).execute(self.store.pool()).await?.rows_affected())
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

/// Adds records of different keys, in one statement.
async fn add(connection: &mut AnyConnection, minute_us: i64, records: &[UsageRecord]) -> sqlx::Result<()> {
    let mut query = sqlx::query(AssertSqlSafe(upsert(records.len()))).persistent(records.len() == ROWS);
    for record in records {
        query = query
            .bind(minute_us)
            .bind(record.server.as_str())
            .bind(record.token.as_str())
            .bind(record.method.as_str())
            .bind(record.target.as_str())
            .bind(i64::from(record.outcome))
            .bind(record.calls.clamp(0, MAX_COUNT))
            .bind(record.duration_us.clamp(0, MAX_COUNT))
            .bind(record.request_bytes.clamp(0, MAX_COUNT))
            .bind(record.response_bytes.clamp(0, MAX_COUNT));
    }
    query.execute(connection).await?;
    Ok(())
}

/// The statement that adds so many rows.
fn upsert(rows: usize) -> String {
    const COLUMNS: [&str; 10] = [
        "minute_us",
        "server",
        "token",
        "method",
        "target",
        "outcome",
        "calls",
        "duration_us",
        "request_bytes",
        "response_bytes",
    ];
    let sum = |column: &&str| {
        format!(
            "{column} = CASE WHEN usage_sums.{column} > {MAX_COUNT} - excluded.{column} THEN {MAX_COUNT} \
             ELSE usage_sums.{column} + excluded.{column} END"
        )
    };
    format!(
        "INSERT INTO usage_sums ({}) VALUES {} ON CONFLICT ({}) DO UPDATE SET {}",
        COLUMNS.join(", "),
        values::rows(0, COLUMNS.len(), rows),
        COLUMNS[..6].join(", "),
        COLUMNS[6..].iter().map(sum).collect::<Vec<_>>().join(", "),
    )
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
        last_address: String::new(),
    })
}
