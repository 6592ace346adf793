//! Secrets that are used once: stored as hashes, and used by whoever comes first, on any replica.
//!
//! It must not know what they open.

use sqlx::Row as _;

use super::{Store, StoreError, Tx};

/// What a one-time link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkPurpose {
    /// Make the first administrator.
    Setup,
    /// Let somebody new choose a password.
    Invite,
    /// Let somebody choose another password.
    Reset,
    /// Sign somebody in elsewhere.
    SignIn,
}

impl LinkPurpose {
    const ALL: [Self; 4] = [Self::Setup, Self::Invite, Self::Reset, Self::SignIn];

    fn as_str(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Invite => "invite",
            Self::Reset => "reset",
            Self::SignIn => "sign-in",
        }
    }
}

/// A one-time link as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRow {
    /// The hash of the secret, in hexadecimal.
    pub hash: String,
    /// What it is for.
    pub purpose: LinkPurpose,
    /// Whom it is for. Empty: nobody who exists.
    pub uid: String,
    /// The time of creation.
    pub create_us: i64,
    /// Until when it can be used.
    pub expire_us: i64,
}

impl Store {
    /// Finds a link that can still be used.
    pub async fn open_link(&self, hash: &str, now_us: i64) -> Result<Option<LinkRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM one_time_links WHERE hash = $1 AND used = 0 AND expires > $2")
            .bind(hash)
            .bind(now_us)
            .fetch_optional(self.pool())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let purpose: String = row.try_get("purpose")?;
        let Some(purpose) = LinkPurpose::ALL.into_iter().find(|known| known.as_str() == purpose) else {
            return Ok(None);
        };
        Ok(Some(LinkRow {
            hash: row.try_get("hash")?,
            purpose,
            uid: row.try_get("uid")?,
            create_us: row.try_get("created")?,
            expire_us: row.try_get("expires")?,
        }))
    }

    /// Forgets links that ended before `before_us`, those of the first start excepted: that one was made says that it was printed.
    pub async fn forget_links(&self, before_us: i64) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        sqlx::query("DELETE FROM one_time_links WHERE expires < $1 AND purpose <> $2")
            .bind(before_us)
            .bind(LinkPurpose::Setup.as_str())
            .execute(self.pool())
            .await?;
        Ok(())
    }
}

impl Tx {
    /// Stores a link, in the place of others for the same that were not used.
    pub async fn add_link(&mut self, link: &LinkRow) -> Result<(), StoreError> {
        self.note_person(&link.uid).await?;
        sqlx::query("DELETE FROM one_time_links WHERE uid = $1 AND purpose = $2 AND used = 0")
            .bind(link.uid.as_str())
            .bind(link.purpose.as_str())
            .execute(self.connection())
            .await?;
        sqlx::query(
            "INSERT INTO one_time_links (hash, purpose, uid, created, expires, used) VALUES ($1, $2, $3, $4, $5, 0)",
        )
        .bind(link.hash.as_str())
        .bind(link.purpose.as_str())
        .bind(link.uid.as_str())
        .bind(link.create_us)
        .bind(link.expire_us)
        .execute(self.connection())
        .await?;
        self.aside = true;
        Ok(())
    }

    /// Uses a link up. Returns whether this was the one time.
    pub async fn use_link(&mut self, hash: &str) -> Result<bool, StoreError> {
        let now = self.now_us();
        let done =
            sqlx::query("UPDATE one_time_links SET used = $2 WHERE hash = $1 AND used = 0 AND expires > $2")
                .bind(hash)
                .bind(now)
                .execute(self.connection())
                .await?;
        self.aside = true;
        Ok(done.rows_affected() > 0)
    }

    /// Forgets the links by which somebody would sign in elsewhere.
    pub async fn delete_sign_in_links_of(&mut self, uid: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM one_time_links WHERE uid = $1 AND purpose = $2 AND used = 0")
            .bind(uid)
            .bind(LinkPurpose::SignIn.as_str())
            .execute(self.connection())
            .await?;
        self.aside = true;
        Ok(())
    }

    /// Forgets the links of somebody that were not used.
    pub async fn delete_links_of(&mut self, uid: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM one_time_links WHERE uid = $1 AND used = 0")
            .bind(uid)
            .execute(self.connection())
            .await?;
        self.aside = true;
        Ok(())
    }

    /// Tells whether a link for the first administrator was ever made.
    pub async fn has_setup_link(&mut self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT hash FROM one_time_links WHERE purpose = $1 LIMIT 1")
            .bind(LinkPurpose::Setup.as_str())
            .fetch_optional(self.connection())
            .await?;
        Ok(row.is_some())
    }
}
