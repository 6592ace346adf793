//! An empty database for each test: a file of SQLite, or a schema of PostgreSQL.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use sqlx::{Connection, Row as _};
use tempfile::TempDir;
use trunkline_control_plane::store::Store;

/// Runs each test on both databases.
macro_rules! suite {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(super::Database::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                if let Some(database) = super::Database::postgres().await {
                    super::$test(database).await;
                }
            })*
        }
    };
}

/// Takes migration 11 back.
const UNDO_11: &str = "drop index resources_by_owner; drop index resources_by_team; drop index resources_by_visibility;
    alter table resources drop column owner; alter table resources drop column team;
    alter table resources drop column visibility;
    drop table principals; drop table passwords; drop table memberships; drop table bindings; drop table sessions;
    drop table api_keys; drop table one_time_links; drop table sign_in_failures; drop table known_devices;
    drop table withdrawals; drop table quotas; drop table last_uses";
/// Takes migration 9 back.
const UNDO_9: &str = "alter table edges drop column egress";
/// Takes migration 8 back.
const UNDO_8: &str = "drop index join_tokens_id;
    alter table join_tokens drop column id; alter table join_tokens drop column edge;
    alter table edges drop column enrollment; alter table edges drop column join_token;
    alter table edges drop column request_hash; alter table edges drop column refused_count;
    alter table edges drop column refused_us; alter table edges drop column refused_address;
    alter table edges drop column refused_join_token";

/// Where a test keeps its tables. It is gone with the last clone, as far as it is a file.
#[derive(Clone)]
pub(crate) struct Database {
    url: String,
    _folder: Option<Arc<TempDir>>,
}

impl Database {
    /// A file.
    pub(crate) fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite:{}?mode=rwc", folder.path().join("trunkline.db").display());
        Self { url, _folder: Some(Arc::new(folder)) }
    }

    /// A schema of the PostgreSQL that `TEST_POSTGRES_URL` names; without that the test is skipped.
    pub(crate) async fn postgres() -> Option<Self> {
        let Ok(server) = std::env::var("TEST_POSTGRES_URL") else {
            eprintln!("SKIP: TEST_POSTGRES_URL is not set");
            return None;
        };
        sqlx::any::install_default_drivers();
        let schema = format!("t{}", uuid::Uuid::new_v4().simple());
        let mut connection = sqlx::AnyConnection::connect(&server).await.unwrap();
        let sql = sqlx::AssertSqlSafe(format!("create schema {schema}"));
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        let joint = if server.contains('?') { '&' } else { '?' };
        Some(Self { url: format!("{server}{joint}options=-csearch_path%3D{schema}"), _folder: None })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }

    /// Opens it, as one more replica.
    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }

    /// Runs statements, separated by `;`.
    pub(crate) async fn run(&self, statements: &str) {
        let mut connection = sqlx::AnyConnection::connect(&self.url).await.unwrap();
        let sql = sqlx::AssertSqlSafe(statements.to_owned());
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Takes the migrations after `version` back, where they change no table or are later than 7.
    pub(crate) async fn undo_after(&self, version: i64) {
        if version < 17 {
            self.run("alter table audit_head drop column seals").await;
        }
        if version < 16 {
            self.run("drop table token_makers").await;
        }
        if version < 15 {
            self.run("alter table approvals drop column rounds").await;
        }
        if version < 14 {
            self.run("drop table approvals; drop table approval_webhooks").await;
        }
        if version < 13 {
            self.run(
                "drop table audit; drop table audit_head; drop table audit_seals; drop table audit_runs",
            )
            .await;
        }
        if (11..12).contains(&version) {
            self.run("alter table principals drop column invited_by").await;
        }
        if version < 11 {
            self.run(UNDO_11).await;
        }
        if version < 10 {
            self.run("drop table replicas").await;
        }
        if version < 9 {
            self.run(UNDO_9).await;
        }
        if version < 8 {
            self.run(UNDO_8).await;
        }
        self.run(&format!("delete from migrations where version > {version}")).await;
    }

    /// Takes the migrations after `version` back, and appends fields that an earlier build stored to the body of an upstream.
    pub(crate) async fn rewind_to(&self, version: i64, upstream: &str, fields: &[u8]) {
        self.undo_after(version).await;
        let mut connection = sqlx::AnyConnection::connect(&self.url).await.unwrap();
        let row = sqlx::query("select body from resources where name = $1").bind(upstream);
        let row = row.fetch_one(&mut connection).await.unwrap();
        let body = [row.get::<Vec<u8>, _>("body").as_slice(), fields].concat();
        sqlx::query("update resources set body = $1 where name = $2")
            .bind(body)
            .bind(upstream)
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    }
}
