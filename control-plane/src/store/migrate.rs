//! Brings the tables up to date at start, also when several replicas start at once.

use sqlx::{AnyConnection, AnyPool, Connection, Row as _};

use super::StoreError;
use crate::clock;

/// Every migration, in order. A number is never used twice, and a text never edited once it was released.
const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("../../migrations/0001_resources.sql")),
    (2, include_str!("../../migrations/0002_keys.sql")),
    (3, include_str!("../../migrations/0003_edges.sql")),
    (4, include_str!("../../migrations/0004_usage.sql")),
    (5, include_str!("../../migrations/0005_edge_peers.sql")),
    (6, include_str!("../../migrations/0006_edge_siblings.sql")),
];

/// Any number will do, as long as it is always the same: who holds this lock migrates.
const LOCK: &str = "select pg_advisory_xact_lock(8240112)";

/// Names sort by their bytes on every database. SQLite has this collation built in.
const COLLATION: &str = r#"create collation if not exists "binary" from "C""#;

/// Runs what has not been run, in one transaction.
pub(super) async fn run(pool: &AnyPool, sqlite: bool) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await?;
    // Whoever comes second waits here, and then finds everything done.
    let begin = if sqlite { "begin immediate" } else { "begin" };
    let mut transaction = connection.begin_with(begin).await?;
    if !sqlite {
        sqlx::raw_sql(LOCK).execute(&mut *transaction).await?;
        sqlx::raw_sql(COLLATION).execute(&mut *transaction).await?;
    }
    sqlx::raw_sql(
        "create table if not exists migrations (version BIGINT not null primary key, applied BIGINT not null)",
    )
    .execute(&mut *transaction)
    .await?;
    let done = newest(&mut transaction).await?;
    for (version, text) in MIGRATIONS.iter().filter(|(version, _)| *version > done) {
        sqlx::raw_sql(*text).execute(&mut *transaction).await?;
        sqlx::query("insert into migrations (version, applied) values ($1, $2)")
            .bind(*version)
            .bind(clock::now_us())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn newest(connection: &mut AnyConnection) -> Result<i64, StoreError> {
    let row = sqlx::query("select coalesce(max(version), 0) as version from migrations")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get("version")?)
}
