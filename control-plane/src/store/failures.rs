//! Tries to sign in, counted before they are looked at, so that all replicas agree however many come at once; and the devices that
//! somebody has signed in from.
//!
//! It must not know what is counted.

use sqlx::Row as _;

use super::{Store, StoreError};

/// What is counted under a key, and what stops it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryPace {
    /// So many tries are free; each one after that has to wait twice as long as the one before.
    Doubling {
        /// The tries that are free.
        free: i64,
        /// The first wait.
        first_us: i64,
        /// The longest wait.
        longest_us: i64,
        /// Without a try for so long, all is forgotten.
        forget_us: i64,
    },
    /// So many tries within a time.
    Window {
        /// The number of tries.
        most: i64,
        /// The time.
        length_us: i64,
    },
}

impl Store {
    /// Counts a try under a key, if there may be one now. Returns when there may be one where there may not.
    pub async fn count_try(&self, key: &str, pace: TryPace, now_us: i64) -> Result<Option<i64>, StoreError> {
        let _turn = self.turn().await;
        let counted = match pace {
            TryPace::Doubling { free, first_us, longest_us, forget_us } => {
                sqlx::query(DOUBLING)
                    .bind(key)
                    .bind(now_us)
                    .bind(now_us - forget_us)
                    .bind(free)
                    .bind(first_us)
                    .bind(longest_us)
                    .fetch_optional(self.pool())
                    .await?
            }
            TryPace::Window { most, length_us } => {
                sqlx::query(WINDOW)
                    .bind(key)
                    .bind(now_us)
                    .bind(now_us + length_us)
                    .bind(most)
                    .fetch_optional(self.pool())
                    .await?
            }
        };
        if counted.is_some() {
            return Ok(None);
        }
        let row = sqlx::query("SELECT until FROM sign_in_failures WHERE key = $1")
            .bind(key)
            .fetch_optional(self.pool())
            .await?;
        // Without a row, another one has forgotten it meanwhile.
        Ok(Some(row.map(|row| row.try_get("until")).transpose()?.unwrap_or(now_us)))
    }

    /// Takes back tries that did not fail.
    pub async fn take_back_tries(&self, keys: &[&str]) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        for key in keys {
            sqlx::query("UPDATE sign_in_failures SET count = count - 1 WHERE key = $1 AND count > 0")
                .bind(*key)
                .execute(self.pool())
                .await?;
        }
        Ok(())
    }

    /// Forgets the tries under a key.
    pub async fn forget_tries(&self, key: &str) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        sqlx::query("DELETE FROM sign_in_failures WHERE key = $1").bind(key).execute(self.pool()).await?;
        Ok(())
    }

    /// Forgets tries before `before_us`, and the oldest past `most` keys.
    pub async fn forget_old_tries(&self, before_us: i64, most: i64) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        sqlx::query("DELETE FROM sign_in_failures WHERE updated < $1")
            .bind(before_us)
            .execute(self.pool())
            .await?;
        sqlx::query(
            "DELETE FROM sign_in_failures WHERE key NOT IN \
             (SELECT key FROM sign_in_failures ORDER BY updated DESC, key LIMIT $1)",
        )
        .bind(most)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Tells whether somebody has signed in from a device.
    pub async fn knows_device(&self, uid: &str, hash: &str) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT seen FROM known_devices WHERE uid = $1 AND hash = $2")
            .bind(uid)
            .bind(hash)
            .fetch_optional(self.pool())
            .await?;
        Ok(row.is_some())
    }

    /// Notes that somebody signed in from a device. Past `most`, those that were not used for longest are forgotten.
    pub async fn note_device(&self, uid: &str, hash: &str, now_us: i64, most: i64) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        sqlx::query(
            "INSERT INTO known_devices (uid, hash, seen) VALUES ($1, $2, $3) \
             ON CONFLICT (uid, hash) DO UPDATE SET seen = $3",
        )
        .bind(uid)
        .bind(hash)
        .bind(now_us)
        .execute(self.pool())
        .await?;
        sqlx::query(
            "DELETE FROM known_devices WHERE uid = $1 AND hash NOT IN \
             (SELECT hash FROM known_devices WHERE uid = $1 ORDER BY seen DESC, hash LIMIT $2)",
        )
        .bind(uid)
        .bind(most)
        .execute(self.pool())
        .await?;
        Ok(())
    }
}

/// Key, now, what is older is forgotten, free tries, first wait, longest wait. The wait before the next try is `until - updated`.
const DOUBLING: &str = "INSERT INTO sign_in_failures (key, count, until, updated) VALUES ($1, 1, $2, $2) \
    ON CONFLICT (key) DO UPDATE SET \
    count = CASE WHEN sign_in_failures.updated < $3 THEN 1 ELSE sign_in_failures.count + 1 END, \
    until = CASE \
        WHEN sign_in_failures.updated < $3 OR sign_in_failures.count + 1 < $4 THEN $2 \
        WHEN sign_in_failures.until = sign_in_failures.updated THEN $2 + $5 \
        WHEN 2 * (sign_in_failures.until - sign_in_failures.updated) > $6 THEN $2 + $6 \
        ELSE $2 + 2 * (sign_in_failures.until - sign_in_failures.updated) END, \
    updated = $2 \
    WHERE sign_in_failures.until <= $2 RETURNING count";

/// Key, now, the end of a window that begins now, tries.
const WINDOW: &str = "INSERT INTO sign_in_failures (key, count, until, updated) VALUES ($1, 1, $3, $2) \
    ON CONFLICT (key) DO UPDATE SET \
    count = CASE WHEN sign_in_failures.until <= $2 THEN 1 ELSE sign_in_failures.count + 1 END, \
    until = CASE WHEN sign_in_failures.until <= $2 THEN $3 ELSE sign_in_failures.until END, \
    updated = $2 \
    WHERE sign_in_failures.until <= $2 OR sign_in_failures.count < $4 RETURNING count";
