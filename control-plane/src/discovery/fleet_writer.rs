//! Writes where the edges of this replica stand to the table of edges, for the other replicas and for people: one task, which
//! gathers what changed of all edges and writes it in a few statements.
//!
//! It must not know how edges get further.

use std::time::Duration;

use super::fleet::Fleet;
use crate::clock;
use crate::store::edges::{DepartureRow, EdgeRow};

/// Between two signs of life in the table.
const BEAT: Duration = Duration::from_secs(10);
/// Progress is gathered for so long before it is written.
const GATHER: Duration = Duration::from_millis(50);

impl Fleet {
    /// Writes what changes, and signs of life, for ever.
    pub(super) async fn keep_written(&self) {
        let mut changed = self.changed();
        loop {
            let progress = tokio::time::timeout(BEAT, changed.changed()).await.is_ok();
            if progress {
                tokio::time::sleep(GATHER).await;
                changed.borrow_and_update();
            }
            if let Err(error) = self.write(!progress).await {
                tracing::warn!(%error, "cannot write the state of edges; retrying");
            }
        }
    }

    /// Writes what is not written yet: before the program ends.
    pub async fn flush(&self) -> sqlx::Result<()> {
        self.write(false).await
    }

    /// Writes what is not written yet, or `everything`. What could not be written is written the next time.
    async fn write(&self, everything: bool) -> sqlx::Result<()> {
        // Whoever left may have come back since.
        self.write_departures().await?;
        let rows = self.take_due(everything);
        let written = self.edges.report(&rows).await;
        let Ok(present) = &written else {
            for row in &rows {
                self.with(&row.id, row.connection, |edge| edge.dirty = true);
            }
            return written.map(drop);
        };
        let mut has_arrived = false;
        for row in &rows {
            if present.contains(&row.id) {
                self.with(&row.id, row.connection, |edge| {
                    has_arrived |= !std::mem::replace(&mut edge.told, true);
                });
            } else {
                self.evict(&row.id, |edge| edge.row.connection == row.connection);
            }
        }
        if has_arrived {
            self.siblings.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    async fn write_departures(&self) -> sqlx::Result<()> {
        let departures: Vec<DepartureRow> = self.local().departed.values().cloned().collect();
        self.edges.leave(&self.replica, &departures).await?;
        let mut local = self.local();
        for departure in &departures {
            if local.departed.get(&departure.id) == Some(departure) {
                local.departed.remove(&departure.id);
            }
        }
        Ok(())
    }

    fn take_due(&self, everything: bool) -> Vec<EdgeRow> {
        let now = clock::now_us();
        let stale = now - clock::duration_us(BEAT);
        let mut local = self.local();
        let due = local.connected.values_mut();
        let due = due.filter(|edge| everything || edge.dirty || edge.row.beat_us < stale);
        due.map(|edge| {
            edge.dirty = false;
            edge.row.beat_us = now;
            edge.row.clone()
        })
        .collect()
    }
}
