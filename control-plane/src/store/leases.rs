//! Leases: work that only one replica does at a time, with a token that grows with every new holder.
//!
//! It must not know what the work is.

use std::time::Duration;

use sqlx::{AnyConnection, Row as _};

use super::Store;
use crate::clock;

/// A lease that is held until its time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Of what.
    pub name: &'static str,
    /// Grows with every change of holder, which fences the writes of earlier ones.
    pub token: i64,
}

/// The table.
#[derive(Debug, Clone)]
pub struct Leases {
    store: Store,
    holder: String,
}

impl Leases {
    /// The table of this database, for a replica.
    pub fn new(store: &Store, holder: String) -> Self {
        Self { store: store.clone(), holder }
    }

    /// Takes a lease, or makes one that is held last longer; `None` where another replica has it. Where the database has one
    /// writer, it waits for its turn, behind a write of any length.
    pub async fn take(&self, name: &'static str, duration: Duration) -> sqlx::Result<Option<Lease>> {
        let _turn = self.store.turn().await;
        let now = clock::now_us();
        let row = sqlx::query(
            "INSERT INTO leases (name, holder, token, expire_us) VALUES ($1, $2, 1, $3) \
             ON CONFLICT (name) DO UPDATE SET holder = $2, expire_us = $3, \
             token = CASE WHEN leases.holder = $2 THEN leases.token ELSE leases.token + 1 END \
             WHERE leases.holder = $2 OR leases.expire_us < $4 RETURNING token",
        )
        .bind(name)
        .bind(self.holder.as_str())
        .bind(now + clock::duration_us(duration))
        .bind(now)
        .fetch_optional(self.store.pool())
        .await?;
        row.map(|row| Ok(Lease { name, token: row.try_get("token")? })).transpose()
    }

    /// Gives back early what this replica holds.
    pub async fn release(&self) -> sqlx::Result<()> {
        let _turn = self.store.turn().await;
        sqlx::query("UPDATE leases SET expire_us = 0 WHERE holder = $1")
            .bind(self.holder.as_str())
            .execute(self.store.pool())
            .await?;
        Ok(())
    }
}

impl Lease {
    /// Returns whether no other replica has taken the lease since, within the transaction that is to be fenced.
    pub(crate) async fn is_current(&self, connection: &mut AnyConnection) -> sqlx::Result<bool> {
        let row = sqlx::query("SELECT token FROM leases WHERE name = $1")
            .bind(self.name)
            .fetch_optional(connection)
            .await?;
        let token: Option<i64> = row.map(|row| row.try_get("token")).transpose()?;
        Ok(token == Some(self.token))
    }
}
