//! Counted calls: batches from edges, stored once each, summed by minute.
//!
//! It must not know how edges count.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};
use tokio::sync::Mutex;
use trunkline::telemetry::v1::{LastUse, ReportUsageRequest, UsageRecord};

use super::values::{self, ROWS};
use super::{Store, StoreError, Viewer};
use crate::clock;
use crate::domain::{Kind, names};

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
    /// Who looks: calls of servers and by callers that do not exist for them are left out, and where others led to is not said.
    pub viewer: Viewer,
}

/// A query of last uses.
#[derive(Debug, Clone, Default)]
pub struct LastUsesQuery {
    /// Only this server; empty: all.
    pub server: String,
    /// Only by this token; empty: by anybody.
    pub token: String,
    /// How many at most.
    pub limit: i64,
    /// Who looks.
    pub viewer: Viewer,
}

/// A last use of a token, as it is written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct TokenUse {
    /// `tokens/{token}`.
    token: String,
    /// `servers/{server}`; empty: any.
    server: String,
    /// The target; empty: any.
    target: String,
    /// When, at the latest.
    time_us: i64,
    /// From where. Empty: not known.
    address: String,
}

/// The name in the place of those that edges had too many of.
const FOLDED: &str = "other";
/// The name in the place of callers who do not exist for who looks.
const SOMEBODY_ELSE: &str = "somebody-else";

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
            let uses: Vec<TokenUse> =
                last_uses(&batch.records, end.min(clock::now_us())).into_values().collect();
            for rows in uses.chunks(ROWS) {
                note_uses(&mut transaction, rows).await?;
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
    pub async fn query(&self, query: &UsageQuery) -> Result<Vec<UsageRecord>, StoreError> {
        let sql = format!(
            "SELECT server, token, method, target, outcome, CAST(SUM(calls) AS BIGINT) AS calls, \
             CAST(SUM(duration_us) AS BIGINT) AS duration_us, \
             CAST(SUM(request_bytes) AS BIGINT) AS request_bytes, \
             CAST(SUM(response_bytes) AS BIGINT) AS response_bytes \
             FROM usage_sums WHERE minute_us >= $1 AND minute_us < $2 \
             AND ($3 = '' OR server = $3) AND ($4 = '' OR token = $4){} \
             GROUP BY server, token, method, target, outcome \
             ORDER BY SUM(calls) DESC, server, token, method, target, outcome LIMIT $5",
            // Who asks for one by name must not learn in this way whether there is one.
            query.viewer.usage_condition(5, query.token.is_empty())
        );
        let select = sqlx::query(AssertSqlSafe(sql))
            .bind(query.start_us.div_euclid(MINUTE_US) * MINUTE_US)
            .bind(query.end_us)
            .bind(query.server.as_str())
            .bind(query.token.as_str())
            .bind(query.limit);
        let select = query.viewer.values().fold(select, |select, value| select.bind(value));
        let rows = select.fetch_all(self.store.pool()).await?;
        let records = rows.iter().map(read).collect::<sqlx::Result<Vec<_>>>()?;
        if query.viewer.sees_everything() {
            return Ok(records);
        }
        let upstreams = self.store.seen(Kind::Upstream, &query.viewer).await?;
        let records = self.without_unseen_callers(records, &query.viewer).await?;
        Ok(without_unseen_targets(records, &upstreams))
    }

    /// Names nobody who does not exist for who looks.
    async fn without_unseen_callers(
        &self,
        mut records: Vec<UsageRecord>,
        viewer: &Viewer,
    ) -> Result<Vec<UsageRecord>, StoreError> {
        let tokens = self.store.seen(Kind::Token, viewer).await?;
        let is_seen =
            |name: &str| name.is_empty() || tokens.contains(name) || viewer.principal() == Some(name);
        for record in records.iter_mut().filter(|record| !is_seen(&record.token)) {
            SOMEBODY_ELSE.clone_into(&mut record.token);
        }
        Ok(records)
    }

    /// When each server, and each target of one, was last used, by name. Of those who do not exist for who looks, only the uses of their
    /// own servers count.
    pub async fn last_uses(&self, query: &LastUsesQuery) -> Result<Vec<LastUse>, StoreError> {
        let sql = format!(
            "SELECT server, target, CAST(MAX(time_us) AS BIGINT) AS time_us FROM last_uses WHERE server <> '' \
             AND ($1 = '' OR server = $1) AND ($2 = '' OR token = $2){} \
             GROUP BY server, target ORDER BY server, target LIMIT $3",
            query.viewer.usage_condition(3, query.token.is_empty())
        );
        let select = sqlx::query(AssertSqlSafe(sql))
            .bind(query.server.as_str())
            .bind(query.token.as_str())
            .bind(query.limit);
        let select = query.viewer.values().fold(select, |select, value| select.bind(value));
        let rows = select.fetch_all(self.store.pool()).await?;
        let mut uses = rows.iter().map(read_use).collect::<sqlx::Result<Vec<_>>>()?;
        if !query.viewer.sees_everything() {
            let upstreams = self.store.seen(Kind::Upstream, &query.viewer).await?;
            uses.retain(|used| used.target.is_empty() || leads_to(&used.target, &upstreams));
        }
        Ok(uses)
    }

    /// Forgets what is older than `before_us`, minute by minute, so that the tables do not grow for ever.
    pub async fn forget(&self, before_us: i64) -> sqlx::Result<()> {
        const OLDEST: &str = "DELETE FROM usage_sums WHERE minute_us < $1 \
                              AND minute_us = (SELECT MIN(minute_us) FROM usage_sums)";
        while self.forget_by(OLDEST, before_us).await? > 0 {}
        self.forget_by("DELETE FROM last_uses WHERE time_us < $1", before_us).await?;
        self.forget_by("DELETE FROM usage_runs WHERE seen_us < $1", before_us).await.map(drop)
    }

    async fn forget_by(&self, statement: &'static str, before_us: i64) -> sqlx::Result<u64> {
        let _turn = self.store.turn().await;
        Ok(sqlx::query(statement).bind(before_us).execute(self.store.pool()).await?.rows_affected())
    }
}

/// Says nowhere that calls led to what does not exist for who looks. Those with the most calls first.
fn without_unseen_targets(mut records: Vec<UsageRecord>, upstreams: &HashSet<String>) -> Vec<UsageRecord> {
    for record in records.iter_mut().filter(|record| !leads_to(&record.target, upstreams)) {
        record.target.clear();
    }
    let mut sums: Vec<_> = summed(&records).into_values().collect();
    sums.sort_by_key(|sum| std::cmp::Reverse(sum.calls));
    sums
}

/// Whether a target is of one of these upstreams.
fn leads_to(target: &str, upstreams: &HashSet<String>) -> bool {
    names::upstream_id(target).map(names::upstream).is_some_and(|upstream| upstreams.contains(&upstream))
}

/// When, and from where, each token of a batch was used: for anything, at each server, and for each target.
fn last_uses(records: &[UsageRecord], time_us: i64) -> BTreeMap<[&str; 3], TokenUse> {
    let mut uses = BTreeMap::new();
    for record in records.iter().filter(|record| !matches!(&*record.token, "" | FOLDED)) {
        let (token, server, target) = (&*record.token, &*record.server, &*record.target);
        for key in [[token, "", ""], [token, server, ""], [token, server, target]] {
            if key.contains(&FOLDED) {
                continue;
            }
            let found: &mut TokenUse = uses.entry(key).or_default();
            let [token, server, target] = key.map(str::to_owned);
            let address = Some(&record.last_address).filter(|address| !address.is_empty());
            let address = address.unwrap_or(&found.address).clone();
            *found = TokenUse { token, server, target, time_us, address };
        }
    }
    uses
}

/// Writes down last uses of different keys, in one statement. An older one changes nothing.
async fn note_uses(connection: &mut AnyConnection, uses: &[TokenUse]) -> sqlx::Result<()> {
    let sql = format!(
        "INSERT INTO last_uses (token, server, target, time_us, address) VALUES {} \
         ON CONFLICT (token, server, target) DO UPDATE SET time_us = excluded.time_us, \
         address = CASE WHEN excluded.address <> '' THEN excluded.address ELSE last_uses.address END \
         WHERE last_uses.time_us <= excluded.time_us",
        values::rows(0, 5, uses.len())
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(uses.len() == ROWS);
    for TokenUse { token, server, target, time_us, address } in uses {
        query = query.bind(token.as_str()).bind(server.as_str()).bind(target.as_str());
        query = query.bind(*time_us).bind(address.as_str());
    }
    query.execute(connection).await.map(drop)
}

fn read_use(row: &AnyRow) -> sqlx::Result<LastUse> {
    let last_use_time = Some(clock::timestamp(row.try_get("time_us")?));
    Ok(LastUse { server: row.try_get("server")?, target: row.try_get("target")?, last_use_time })
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
        // Of single calls, and not of sums.
        last_address: String::new(),
    })
}
