//! Who has made a token, or had or gave it away since, and may have kept its bearer: by uid, for as long as the token exists.
//!
//! It must not know what follows from it.

use sqlx::Row as _;

use super::{StoreError, Tx};

impl Tx {
    /// Remembers that somebody has made a token, or gave it away. An empty uid, as of the administrator's bearer, is nobody.
    pub async fn note_token_maker(&mut self, token: &str, maker: &str) -> Result<(), StoreError> {
        if maker.is_empty() {
            return Ok(());
        }
        self.aside = true;
        sqlx::query(
            "INSERT INTO token_makers (token, maker, answerable) VALUES ($1, $2, coalesce((SELECT o.uid FROM principals p \
             JOIN principals o ON o.name = p.owner WHERE p.uid = $2), '')) ON CONFLICT (token, maker) DO NOTHING",
        )
        .bind(token)
        .bind(maker)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Who has made a token or gave it away, and who answers for them or did then. Of what is no token, nobody.
    pub async fn token_makers(&mut self, token: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT m.maker, m.answerable, coalesce(o.uid, '') AS answers FROM token_makers m \
             LEFT JOIN principals p ON p.uid = m.maker LEFT JOIN principals o ON o.name = p.owner WHERE m.token = $1",
        )
        .bind(token)
        .fetch_all(self.connection())
        .await?;
        let mut found = Vec::new();
        for row in &rows {
            for column in ["maker", "answerable", "answers"] {
                let uid: String = row.try_get(column)?;
                if !uid.is_empty() {
                    found.push(uid);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Forgets who made a token that is gone.
    pub(super) async fn forget_token_makers(&mut self, token: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM token_makers WHERE token = $1")
            .bind(token)
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
