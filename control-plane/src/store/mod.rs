//! The registry's storage: all SQL of the program, one text for SQLite and PostgreSQL.
//! It knows what a resource is, and not what any kind of resource means.

pub mod api_keys;
mod apply_sets;
pub mod approvals;
pub mod audit;
pub mod bindings;
mod catalogue;
pub mod edges;
pub mod enrollments;
pub mod failures;
pub mod join_tokens;
pub mod keys;
pub mod leases;
pub mod links;
mod many;
pub mod memberships;
mod migrate;
mod notify;
mod open;
mod people;
pub mod principals;
pub mod quotas;
mod reach;
pub mod replicas;
mod resources;
pub mod rights;
mod row;
mod secrets;
pub mod sessions;
mod token_makers;
mod tx;
pub mod usage;
mod values;
mod viewer;
pub mod withdrawals;

use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::{AnyPool, Executor};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, watch};

use audit::AuditHealth;

pub use apply_sets::{ApplySetRow, Membership};
pub use open::{DatabaseError, is_unusable, open, sqlite_path};
pub use resources::Page;
pub use row::Row;
pub use secrets::SecretRow;
pub use tx::Tx;
pub use viewer::Viewer;

/// The reason why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database said no, or nothing.
    #[error("database error: {0}")]
    Database(#[from] sqlx::Error),
    /// Bytes that the store wrote cannot be read.
    #[error("cannot decode {name}: {source}")]
    Decode {
        /// The resource.
        name: String,
        /// The reason.
        source: prost::DecodeError,
    },
    /// Another program has brought its tables further than this one knows.
    #[error(
        "the database was written by a newer version of Trunkline (schema {found}; this version knows {known}); \
         start the newer version, or restore a copy from before"
    )]
    NewerSchema {
        /// The newest migration there.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// A change was not made, because it cannot be recorded.
    #[error("the audit log cannot be written: {0}")]
    AuditUnavailable(String),
    /// A row that the store did not write.
    #[error("the database contains a row of the unknown kind `{0}`")]
    UnknownKind(String),
}

/// The registry's store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: AnyPool,
    is_sqlite: bool,
    /// Writers of this process queue here, and not with a connection each in the database: SQLite has one
    /// writer, and on PostgreSQL they would queue at the row `revision` anyway.
    writer: Arc<Mutex<()>>,
    revisions: watch::Sender<i64>,
    committed: watch::Sender<i64>,
    recheck: Notify,
    /// The database that does not respond, and why.
    lost: watch::Sender<Option<String>>,
    audit: Arc<AuditHealth>,
}

impl Store {
    /// Opens a database (`sqlite:…` or `postgres://…`) and brings its tables up to date.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        install_default_drivers();
        let sqlite = url.starts_with("sqlite:");
        let memory = sqlite && url.contains(":memory:");
        let options = AnyPoolOptions::new()
            // An SQLite database in memory is one for each connection.
            .max_connections(if memory { 1 } else { 16 })
            .acquire_timeout(Duration::from_secs(10));
        let options = if memory { options.idle_timeout(None).max_lifetime(None) } else { options };
        let options = if sqlite {
            options.after_connect(|connection, _| Box::pin(prepare_sqlite(connection)))
        } else {
            options
        };
        let pool = options.connect(url).await?;
        migrate::run(&pool, sqlite).await?;
        let revision = resources::revision(&pool).await?;
        let inner = Inner {
            pool,
            is_sqlite: sqlite,
            writer: Arc::default(),
            revisions: watch::Sender::new(revision),
            committed: watch::Sender::new(revision),
            recheck: Notify::new(),
            lost: watch::Sender::new(None),
            audit: Arc::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Begins a write: takes the next revision, and makes other writers wait. Dropped without `commit`, it
    /// leaves no trace.
    pub async fn write(&self) -> Result<Tx, StoreError> {
        Tx::begin(self.clone()).await
    }

    /// How well the audit log can be written.
    pub fn audit_health(&self) -> &Arc<AuditHealth> {
        &self.inner.audit
    }

    /// Tells whether the database is SQLite. Otherwise it is PostgreSQL.
    pub fn is_sqlite(&self) -> bool {
        self.inner.is_sqlite
    }

    /// The version of the tables.
    pub async fn schema_version(&self) -> Result<i64, StoreError> {
        migrate::newest(&mut *self.pool().acquire().await?).await
    }

    /// The newest revision.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        resources::revision(&self.inner.pool).await
    }

    /// The newest revision that this process knows of, whoever wrote it.
    pub fn revisions(&self) -> watch::Receiver<i64> {
        self.inner.revisions.subscribe()
    }

    /// The newest revision that this process wrote: what it should tell other replicas.
    pub fn committed(&self) -> watch::Receiver<i64> {
        self.inner.committed.subscribe()
    }

    /// Reads the newest revision now, because a new one was announced.
    pub fn recheck(&self) {
        self.inner.recheck.notify_one();
    }

    /// Reads the revisions that other replicas wrote, at every interval and every `recheck`, for ever. A
    /// database that does not answer is polled again.
    pub async fn follow(&self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.inner.recheck.notified() => {}
            }
            match self.revision().await {
                Ok(revision) => announce(&self.inner.revisions, revision),
                Err(error) => tracing::warn!(%error, "cannot read the newest revision"),
            }
        }
    }

    /// The connections, for tables beside the resource log.
    fn pool(&self) -> &AnyPool {
        &self.inner.pool
    }

    /// Waits for the turn of this process to write beside the resource log, where the database has one writer: SQLite does, and
    /// who waits inside of it holds a connection, and fails after a while. `None`: the database lets others write meanwhile.
    async fn turn(&self) -> Option<OwnedMutexGuard<()>> {
        if self.inner.is_sqlite { Some(self.inner.writer.clone().lock_owned().await) } else { None }
    }

    /// Closes all connections; what is under way is finished first.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }
}

/// Revisions only grow, in whatever order they are heard of.
fn announce(channel: &watch::Sender<i64>, revision: i64) {
    channel.send_if_modified(|known| {
        let newer = revision > *known;
        *known = revision.max(*known);
        newer
    });
}

/// `synchronous = full`: an edge must never have seen a revision that a power cut takes back.
async fn prepare_sqlite(connection: &mut sqlx::AnyConnection) -> Result<(), sqlx::Error> {
    connection
        .execute("pragma busy_timeout = 5000; pragma synchronous = full; pragma foreign_keys = on")
        .await?;
    // Changing the journal mode needs the file alone, and does not wait for it as other statements do.
    let mut attempts = 50;
    loop {
        match connection.execute("pragma journal_mode = wal").await {
            Err(error) if attempts > 0 && is_busy(&error) => attempts -= 1,
            done => return done.map(drop),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.message().contains("locked"))
}
