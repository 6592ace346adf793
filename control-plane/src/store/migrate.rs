//! Brings the tables up to date at start, also when several replicas start at once.

use prost::Message as _;
use sqlx::{AnyConnection, AnyPool, Connection, Row as _};
use trunkline::registry::v1::upstream::Kind as UpstreamKind;
use trunkline::registry::v1::{McpUpstream, Upstream};

use super::StoreError;
use crate::clock;
use crate::domain::Kind;

/// Every migration, in order. A number is never used twice, and a text never edited once it was released.
const MIGRATIONS: &[(i64, Migration)] = &[
    (1, Migration::Sql(include_str!("../../migrations/0001_resources.sql"))),
    (2, Migration::Sql(include_str!("../../migrations/0002_keys.sql"))),
    (3, Migration::Sql(include_str!("../../migrations/0003_edges.sql"))),
    (4, Migration::Sql(include_str!("../../migrations/0004_usage.sql"))),
    (5, Migration::Sql(include_str!("../../migrations/0005_edge_peers.sql"))),
    (6, Migration::Sql(include_str!("../../migrations/0006_edge_siblings.sql"))),
    (7, Migration::EraPolicy),
    (8, Migration::Sql(include_str!("../../migrations/0008_enrollments.sql"))),
    (9, Migration::Sql(include_str!("../../migrations/0009_edge_egress.sql"))),
    (10, Migration::Sql(include_str!("../../migrations/0010_replicas.sql"))),
    (11, Migration::Sql(include_str!("../../migrations/0011_identity.sql"))),
    (12, Migration::Sql(include_str!("../../migrations/0012_invited_by.sql"))),
    (13, Migration::Sql(include_str!("../../migrations/0013_audit.sql"))),
    (14, Migration::Sql(include_str!("../../migrations/0014_approvals.sql"))),
    (15, Migration::Sql(include_str!("../../migrations/0015_approval_rounds.sql"))),
    (16, Migration::Sql(include_str!("../../migrations/0016_token_makers.sql"))),
    (17, Migration::Sql(include_str!("../../migrations/0017_audit_seals.sql"))),
];

enum Migration {
    Sql(&'static str),
    /// Moves field 9 of upstreams, `era_policy`, to `mcp.era_policy`.
    EraPolicy,
}

/// An upstream as it was stored before it had a kind, in so far as that is stored elsewhere now.
#[derive(Clone, PartialEq, prost::Message)]
struct UpstreamWithoutKind {
    #[prost(int32, tag = "9")]
    era_policy: i32,
}

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
        // That it exists already is no news.
        sqlx::raw_sql("set local client_min_messages = warning").execute(&mut *transaction).await?;
        sqlx::raw_sql(COLLATION).execute(&mut *transaction).await?;
    }
    sqlx::raw_sql(
        "create table if not exists migrations (version BIGINT not null primary key, applied BIGINT not null)",
    )
    .execute(&mut *transaction)
    .await?;
    let done = newest(&mut transaction).await?;
    let known = MIGRATIONS.last().map_or(0, |(version, _)| *version);
    if done > known {
        return Err(StoreError::NewerSchema { found: done, known });
    }
    for (version, migration) in MIGRATIONS.iter().filter(|(version, _)| *version > done) {
        match migration {
            Migration::Sql(text) => {
                sqlx::raw_sql(*text).execute(&mut *transaction).await?;
            }
            Migration::EraPolicy => move_era_policy(&mut transaction).await?,
        }
        sqlx::query("insert into migrations (version, applied) values ($1, $2)")
            .bind(*version)
            .bind(clock::now_us())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// The newest migration that was run.
pub(super) async fn newest(connection: &mut AnyConnection) -> Result<i64, StoreError> {
    let row = sqlx::query("select coalesce(max(version), 0) as version from migrations")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get("version")?)
}

/// Takes no revision: a control plane that starts projects everything, and edges compare it by content.
async fn move_era_policy(connection: &mut AnyConnection) -> Result<(), StoreError> {
    let rows = sqlx::query("select name, body from resources where kind = $1")
        .bind(Kind::Upstream.as_str())
        .fetch_all(&mut *connection)
        .await?;
    for row in rows {
        let (name, body): (String, Vec<u8>) = (row.try_get("name")?, row.try_get("body")?);
        let Some(moved) =
            with_kind(&body).map_err(|source| StoreError::Decode { name: name.clone(), source })?
        else {
            continue;
        };
        sqlx::query("update resources set body = $1 where kind = $2 and name = $3")
            .bind(moved)
            .bind(Kind::Upstream.as_str())
            .bind(name)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Returns the body with its era policy moved. `None`: it has none that would be moved.
fn with_kind(body: &[u8]) -> Result<Option<Vec<u8>>, prost::DecodeError> {
    let UpstreamWithoutKind { era_policy } = UpstreamWithoutKind::decode(body)?;
    let mut upstream = Upstream::decode(body)?;
    if era_policy == 0 || upstream.kind.is_some() {
        return Ok(None);
    }
    upstream.kind = Some(UpstreamKind::Mcp(McpUpstream { era_policy }));
    Ok(Some(upstream.encode_to_vec()))
}
