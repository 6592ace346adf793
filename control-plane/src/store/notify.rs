//! What replicas that share a PostgreSQL tell each other: that there is a new revision, and not what changed.

use super::{Store, StoreError};

impl Store {
    /// Tells the other replicas that share a PostgreSQL of a revision.
    pub async fn notify_postgres(&self, revision: i64) -> Result<(), StoreError> {
        sqlx::query("SELECT pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(revision.to_string())
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Hears of revisions from the other replicas that share a PostgreSQL, until the connection breaks.
    pub async fn listen_postgres(&self, url: &str) -> Result<(), StoreError> {
        let mut listener = sqlx::postgres::PgListener::connect(url).await?;
        listener.listen(CHANNEL).await?;
        // What was said before this listened.
        self.recheck();
        loop {
            listener.recv().await?;
            self.recheck();
        }
    }
}

const CHANNEL: &str = "trunkline_revision";
