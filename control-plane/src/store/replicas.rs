//! The table of the control planes that share this database.
//!
//! It must not know what they do about each other.

use sqlx::Row as _;

use super::Store;
use crate::clock;

/// A control plane, as it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRow {
    /// Names one run of its process.
    pub id: String,
    /// Where it is, for people.
    pub place: String,
    /// Where upstreams may be, as its egress rule says it.
    pub egress: String,
}

/// The table.
#[derive(Debug, Clone)]
pub struct Replicas {
    store: Store,
}

impl Replicas {
    /// The table of this database.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone() }
    }

    /// Says that a control plane runs, and forgets those that have not said so since `since_us`.
    pub async fn beat(&self, replica: &ReplicaRow, since_us: i64) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT INTO replicas (id, place, egress, beat_us) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (id) DO UPDATE SET beat_us = excluded.beat_us",
        )
        .bind(replica.id.as_str())
        .bind(replica.place.as_str())
        .bind(replica.egress.as_str())
        .bind(clock::now_us())
        .execute(self.store.pool())
        .await?;
        let forget = sqlx::query("DELETE FROM replicas WHERE beat_us < $1").bind(since_us);
        forget.execute(self.store.pool()).await?;
        Ok(())
    }

    /// Returns all that are known.
    pub async fn all(&self) -> sqlx::Result<Vec<ReplicaRow>> {
        let rows = sqlx::query("SELECT id, place, egress FROM replicas ORDER BY place, id")
            .fetch_all(self.store.pool())
            .await?;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(ReplicaRow {
                id: row.try_get("id")?,
                place: row.try_get("place")?,
                egress: row.try_get("egress")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Forgets one that stops.
    pub async fn leave(&self, id: &str) -> sqlx::Result<()> {
        sqlx::query("DELETE FROM replicas WHERE id = $1").bind(id).execute(self.store.pool()).await?;
        Ok(())
    }
}
