//! What edges have leased of quotas: no more than there is, whichever replica they ask.
//!
//! It must not know edges, nor why they ask.

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};

use super::row::{COLUMNS, Row};
use super::{Store, StoreError};
use crate::domain::Kind;

/// A replica that others are faster than so often leases nothing, and is asked again.
const ATTEMPTS: usize = 3;

/// What is asked of a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaDemand {
    /// The bucket.
    pub bucket: String,
    /// When its period began, in microseconds.
    pub start_us: i64,
    /// The calls of the period.
    pub limit: i64,
    /// The calls that are wanted. 0: none.
    pub wanted: i64,
    /// Of what is left, the part that whoever asks may hold: one in so many, or one call more than it holds.
    pub part: i64,
    /// The calls that it holds already of what was leased before, which count against that part; less than none where some passed before
    /// they were leased.
    pub held: i64,
    /// The calls that were leased and are given back.
    pub returned: i64,
}

/// What was leased of a quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaGrant {
    /// The calls.
    pub calls: i64,
    /// The calls that are left.
    pub remaining: i64,
}

/// The table.
#[derive(Debug, Clone)]
pub struct Quotas {
    store: Store,
}

impl Quotas {
    /// The table of this database.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone() }
    }

    /// Leases what is asked for, all in one transaction. Answers in the order of the demands.
    pub async fn lease(&self, demands: &[QuotaDemand]) -> sqlx::Result<Vec<QuotaGrant>> {
        let mut grants = vec![QuotaGrant::default(); demands.len()];
        // Always in one order: two replicas that lock the same rows must not wait for each other.
        let mut order = self.worth_a_write(demands).await?;
        if order.is_empty() {
            return Ok(grants);
        }
        order.sort_by(|one, other| demands[*one].bucket.cmp(&demands[*other].bucket));
        let _turn = self.store.turn().await;
        let mut connection = self.store.pool().acquire().await?;
        let mut transaction = connection.begin().await?;
        for position in order {
            let demand = &demands[position];
            give_back(&mut transaction, demand).await?;
            grants[position] = lease(&mut transaction, demand).await?;
        }
        transaction.commit().await?;
        Ok(grants)
    }

    /// The demands that may change something: of a quota that is used up nothing is leased, and who asks for it again and again writes nothing.
    async fn worth_a_write(&self, demands: &[QuotaDemand]) -> sqlx::Result<Vec<usize>> {
        let (mut connection, mut worth) = (self.store.pool().acquire().await?, Vec::new());
        for (position, demand) in demands.iter().enumerate() {
            if demand.returned > 0 || used(&mut connection, demand).await? < demand.limit {
                worth.push(position);
            }
        }
        Ok(worth)
    }

    /// Forgets the periods that began before `before_us`.
    pub async fn forget(&self, before_us: i64) -> sqlx::Result<()> {
        let _turn = self.store.turn().await;
        let forget = sqlx::query("DELETE FROM quotas WHERE start_us < $1").bind(before_us);
        forget.execute(self.store.pool()).await.map(drop)
    }
}

impl Store {
    /// The tokens that were written after a revision, tombstones too.
    pub async fn tokens_since(&self, revision: i64) -> Result<Vec<Row>, StoreError> {
        let sql = format!("select {COLUMNS} from resources r where r.revision > $1 and r.kind = $2");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(revision).bind(Kind::Token.as_str());
        query.fetch_all(self.pool()).await?.iter().map(Row::read).collect()
    }
}

/// A write, whatever is given back: it comes first, so that what is read after it stays so.
async fn give_back(connection: &mut AnyConnection, demand: &QuotaDemand) -> sqlx::Result<()> {
    let sql = "UPDATE quotas SET used = CASE WHEN used < $3 THEN 0 ELSE used - $3 END \
               WHERE bucket = $1 AND start_us = $2";
    let query = sqlx::query(sql).bind(demand.bucket.as_str()).bind(demand.start_us).bind(demand.returned);
    query.execute(connection).await.map(drop)
}

async fn lease(connection: &mut AnyConnection, demand: &QuotaDemand) -> sqlx::Result<QuotaGrant> {
    for _ in 0..ATTEMPTS {
        let left = (demand.limit - used(connection, demand).await?).max(0);
        // One at least: what is said to be held may be lost, and the rest must not be kept from everybody.
        let part = (left / demand.part.max(1)).saturating_sub(demand.held).max(1);
        let calls = demand.wanted.min(part).min(left).max(0);
        if calls == 0 || take(connection, demand, calls).await? {
            return Ok(QuotaGrant { calls, remaining: left - calls });
        }
    }
    // Others took what was seen; there may be some left.
    Ok(QuotaGrant { calls: 0, remaining: 1 })
}

async fn used(connection: &mut AnyConnection, demand: &QuotaDemand) -> sqlx::Result<i64> {
    let row = sqlx::query("SELECT used FROM quotas WHERE bucket = $1 AND start_us = $2")
        .bind(demand.bucket.as_str())
        .bind(demand.start_us)
        .fetch_optional(connection)
        .await?;
    row.map_or(Ok(0), |row| row.try_get("used"))
}

/// Takes so many calls, if there are still so many. The condition is what holds, whatever was read before.
async fn take(connection: &mut AnyConnection, demand: &QuotaDemand, calls: i64) -> sqlx::Result<bool> {
    let taken = sqlx::query(
        "INSERT INTO quotas (bucket, start_us, used) VALUES ($1, $2, $3) \
         ON CONFLICT (bucket, start_us) DO UPDATE SET used = quotas.used + $3 WHERE quotas.used + $3 <= $4",
    )
    .bind(demand.bucket.as_str())
    .bind(demand.start_us)
    .bind(calls)
    .bind(demand.limit)
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() > 0)
}
