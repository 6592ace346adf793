//! Users and service accounts, and passwords: beside the log, because edges learn of none of them.
//!
//! It must not know what anybody may do.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use trunkline::identity::v1::UserState;

use super::{Store, StoreError, Tx, values};
use crate::domain::Kind;

const COLUMNS: &str =
    "uid, name, email, title, owner, team, state, epoch, revision, created, updated, signed_in, invited_by";
/// The role that has everything.
const ADMINISTRATOR: &str = "roles/administrator";

/// A user or a service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The identity of this life of it.
    pub uid: String,
    /// `users/{user}` or `serviceAccounts/{service_account}`.
    pub name: String,
    /// The address with which a user signs in.
    pub email: Option<String>,
    /// A person's name, or what a service account is for.
    pub title: String,
    /// Of a service account: the name of the user who answers for it. Empty: the installation.
    pub owner: String,
    /// Of a service account: `teams/{team}`. Empty: none.
    pub team: String,
    /// Whether it can prove itself. A service account is active or disabled.
    pub state: UserState,
    /// Grows whenever it loses something.
    pub epoch: i64,
    /// The revision of the last change of what it may do.
    pub revision: i64,
    /// The time of creation.
    pub create_us: i64,
    /// The time of the last change.
    pub update_us: i64,
    /// The time of the last sign-in. 0: never.
    pub sign_in_us: i64,
    /// The name of who invited them and may have chosen their password. Empty: nobody.
    pub invited_by: String,
}

/// A password, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PasswordRow {
    /// The hash of it as a PHC string. Empty: there is none.
    pub phc: String,
    /// Whether another one must be chosen before anything else.
    pub must_change: bool,
}

/// Which principals to list.
#[derive(Debug, Clone, Default)]
pub struct PrincipalPage<'a> {
    /// `users/` or `serviceAccounts/`.
    pub prefix: &'a str,
    /// The name that the page begins after.
    pub after: &'a str,
    /// Text that the name, the address or the title holds, in lower case. Empty: any.
    pub search: &'a str,
    /// Who may be listed. `None`: everybody.
    pub only: Option<Visible<'a>>,
    /// How many at most.
    pub limit: i64,
}

/// Whom somebody sees who does not see everybody.
#[derive(Debug, Clone, Default)]
pub struct Visible<'a> {
    /// Their own name: they see themselves, and what they answer for.
    pub name: &'a str,
    /// The teams whose members and service accounts they see, and whoever has a role there.
    pub teams: Vec<&'a str>,
}

impl Store {
    /// Finds a user or service account by its name.
    pub async fn principal(&self, name: &str) -> Result<Option<Principal>, StoreError> {
        find(&mut *self.pool().acquire().await?, "name", name).await
    }

    /// Finds a user or service account by its identity.
    pub async fn principal_by_uid(&self, uid: &str) -> Result<Option<Principal>, StoreError> {
        find(&mut *self.pool().acquire().await?, "uid", uid).await
    }

    /// Finds a user by the address with which they sign in.
    pub async fn principal_by_email(&self, email: &str) -> Result<Option<Principal>, StoreError> {
        find(&mut *self.pool().acquire().await?, "email", email).await
    }

    /// Lists principals by name.
    pub async fn principals(&self, page: &PrincipalPage<'_>) -> Result<Vec<Principal>, StoreError> {
        let teams = page.only.as_ref().map_or(&[][..], |only| &only.teams);
        let sql = list_statement(page.only.is_some(), teams.len());
        let mut query = sqlx::query(AssertSqlSafe(sql))
            .bind(page.prefix)
            .bind(page.after)
            .bind(like(page.search))
            .bind(page.limit);
        if let Some(only) = &page.only {
            query = query.bind(only.name);
        }
        for team in teams {
            query = query.bind(*team);
        }
        query.fetch_all(self.pool()).await?.iter().map(read).collect()
    }

    /// Tells whether there is a user or service account.
    pub async fn has_principals(&self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT uid FROM principals LIMIT 1").fetch_optional(self.pool());
        Ok(row.await?.is_some())
    }

    /// The password of a user.
    pub async fn password(&self, uid: &str) -> Result<PasswordRow, StoreError> {
        password(&mut *self.pool().acquire().await?, uid).await
    }

    /// Writes the hash of the same password anew.
    pub async fn rehash_password(&self, uid: &str, old: &str, new: &str) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        sqlx::query("UPDATE passwords SET phc = $3 WHERE uid = $1 AND phc = $2")
            .bind(uid)
            .bind(old)
            .bind(new)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Notes that somebody signed in.
    pub async fn note_sign_in(&self, uid: &str, now_us: i64) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        sqlx::query("UPDATE principals SET signed_in = $2 WHERE uid = $1")
            .bind(uid)
            .bind(now_us)
            .execute(self.pool())
            .await?;
        Ok(())
    }
}

impl Tx {
    /// Finds a user or service account by its name.
    pub async fn principal(&mut self, name: &str) -> Result<Option<Principal>, StoreError> {
        find(self.connection(), "name", name).await
    }

    /// Finds a user or service account by its identity.
    pub async fn principal_by_uid(&mut self, uid: &str) -> Result<Option<Principal>, StoreError> {
        find(self.connection(), "uid", uid).await
    }

    /// Finds a user by the address with which they sign in.
    pub async fn principal_by_email(&mut self, email: &str) -> Result<Option<Principal>, StoreError> {
        find(self.connection(), "email", email).await
    }

    /// Tells whether there is a user or service account.
    pub async fn has_principals(&mut self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT uid FROM principals LIMIT 1").fetch_optional(self.connection());
        Ok(row.await?.is_some())
    }

    /// Lists the service accounts that a user answers for.
    pub async fn service_accounts_of(&mut self, owner: &str) -> Result<Vec<Principal>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM principals WHERE owner = $1 ORDER BY name");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(owner).fetch_all(self.connection()).await?;
        rows.iter().map(read).collect()
    }

    /// Lists the resources that belong to somebody.
    pub async fn owned_by(&mut self, owner: &str) -> Result<Vec<(Kind, String)>, StoreError> {
        let rows = sqlx::query(
            "SELECT kind, name FROM resources WHERE owner = $1 AND deleted = 0 ORDER BY kind, name",
        )
        .bind(owner)
        .fetch_all(self.connection())
        .await?;
        let read = |row: &AnyRow| {
            let kind: String = row.try_get("kind")?;
            Ok((Kind::parse(&kind).ok_or(StoreError::UnknownKind(kind))?, row.try_get("name")?))
        };
        rows.iter().map(read).collect()
    }

    /// The names of the resources and service accounts that belong to a team.
    pub async fn owned_by_team(&mut self, team: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT name FROM resources WHERE team = $1 AND deleted = 0 UNION SELECT name FROM principals WHERE team = $1 ORDER BY name",
        )
        .bind(team)
        .fetch_all(self.connection())
        .await?;
        Ok(rows.iter().map(|row| row.try_get("name")).collect::<Result<_, _>>()?)
    }

    /// Creates a user or service account, or writes over the one that has its uid. All replicas learn of it.
    pub async fn put_principal(&mut self, principal: &Principal) -> Result<(), StoreError> {
        self.note_person(&principal.uid).await?;
        sqlx::query(
            "INSERT INTO principals (uid, name, email, title, owner, team, state, epoch, revision, created, \
             updated, signed_in, invited_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
             ON CONFLICT (uid) DO UPDATE SET email = $3, title = $4, owner = $5, team = $6, state = $7, \
             revision = $9, updated = $11, invited_by = $13",
        )
        .bind(principal.uid.as_str())
        .bind(principal.name.as_str())
        .bind(principal.email.as_deref())
        .bind(principal.title.as_str())
        .bind(principal.owner.as_str())
        .bind(principal.team.as_str())
        .bind(i64::from(i32::from(principal.state)))
        .bind(principal.epoch)
        .bind(self.revision())
        .bind(principal.create_us)
        .bind(self.now_us())
        .bind(principal.sign_in_us)
        .bind(principal.invited_by.as_str())
        .execute(self.connection())
        .await?;
        if principal.state == UserState::Disabled {
            self.end_approvals_by(&principal.uid).await?;
        }
        self.touch();
        Ok(())
    }

    /// Deletes a user or service account, with all that proves it. What it had given to it stays for who keeps that.
    pub async fn delete_principal(&mut self, uid: &str) -> Result<(), StoreError> {
        const TABLES: [&str; 8] = [
            "principals",
            "passwords",
            "sessions",
            "api_keys",
            "one_time_links",
            "known_devices",
            "memberships",
            "bindings",
        ];
        self.note_person(uid).await?;
        self.end_approvals_of(uid).await?;
        self.end_approvals_by(uid).await?;
        for table in TABLES {
            let sql = format!("DELETE FROM {table} WHERE uid = $1");
            sqlx::query(AssertSqlSafe(sql)).bind(uid).execute(self.connection()).await?;
        }
        self.touch();
        Ok(())
    }

    /// The password of a user.
    pub async fn password(&mut self, uid: &str) -> Result<PasswordRow, StoreError> {
        password(self.connection(), uid).await
    }

    /// Sets a password.
    pub async fn put_password(&mut self, uid: &str, password: &PasswordRow) -> Result<(), StoreError> {
        self.note_person(uid).await?;
        let now = self.now_us();
        sqlx::query(
            "INSERT INTO passwords (uid, phc, changed, must_change) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (uid) DO UPDATE SET phc = $2, changed = $3, must_change = $4",
        )
        .bind(uid)
        .bind(password.phc.as_str())
        .bind(now)
        .bind(i64::from(password.must_change))
        .execute(self.connection())
        .await?;
        self.touch();
        Ok(())
    }

    /// Tells whether somebody else than `uid` can sign in who has everything.
    pub async fn has_other_administrator(&mut self, uid: &str) -> Result<bool, StoreError> {
        self.has_administrator("<>", uid).await
    }

    /// Tells whether `uid` can sign in and has everything.
    pub async fn is_active_administrator(&mut self, uid: &str) -> Result<bool, StoreError> {
        self.has_administrator("=", uid).await
    }

    async fn has_administrator(&mut self, comparison: &'static str, uid: &str) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT p.uid FROM principals p JOIN bindings b ON b.uid = p.uid WHERE b.role = $1 AND b.team = '' \
             AND p.state = $2 AND p.email IS NOT NULL AND p.uid {comparison} $3 LIMIT 1"
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(ADMINISTRATOR)
            .bind(i64::from(i32::from(UserState::Active)))
            .bind(uid)
            .fetch_optional(self.connection())
            .await?;
        Ok(row.is_some())
    }
}

async fn find(
    connection: &mut AnyConnection,
    column: &'static str,
    value: &str,
) -> Result<Option<Principal>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM principals WHERE {column} = $1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(value).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

async fn password(connection: &mut AnyConnection, uid: &str) -> Result<PasswordRow, StoreError> {
    let row = sqlx::query("SELECT phc, must_change FROM passwords WHERE uid = $1")
        .bind(uid)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(PasswordRow::default()) };
    Ok(PasswordRow { phc: row.try_get("phc")?, must_change: row.try_get::<i64, _>("must_change")? != 0 })
}

fn list_statement(is_limited: bool, teams: usize) -> String {
    let own = "(name = $5 OR owner = $5)";
    let only = match (is_limited, teams) {
        (false, _) => String::new(),
        (true, 0) => format!(" AND {own}"),
        (true, count) => {
            let teams = values::list(5, count);
            format!(
                " AND ({own} OR team IN ({teams}) OR uid IN (SELECT uid FROM memberships WHERE team IN ({teams}) UNION SELECT uid FROM bindings WHERE team IN ({teams})))"
            )
        }
    };
    format!(
        "SELECT {COLUMNS} FROM principals WHERE substr(name, 1, length($1)) = $1 AND name > $2 \
         AND (lower(name) LIKE $3 ESCAPE '!' OR lower(coalesce(email, '')) LIKE $3 ESCAPE '!' \
         OR lower(title) LIKE $3 ESCAPE '!'){only} ORDER BY name LIMIT $4"
    )
}

/// The pattern of what holds a text.
fn like(text: &str) -> String {
    let escaped = text.replace('!', "!!").replace('%', "!%").replace('_', "!_");
    format!("%{escaped}%")
}

fn read(row: &AnyRow) -> Result<Principal, StoreError> {
    let state: i64 = row.try_get("state")?;
    let state = i32::try_from(state).ok().and_then(|state| UserState::try_from(state).ok());
    Ok(Principal {
        uid: row.try_get("uid")?,
        name: row.try_get("name")?,
        email: row.try_get("email")?,
        title: row.try_get("title")?,
        owner: row.try_get("owner")?,
        team: row.try_get("team")?,
        // What nobody knows lets nobody in.
        state: state.unwrap_or(UserState::Disabled),
        epoch: row.try_get("epoch")?,
        revision: row.try_get("revision")?,
        create_us: row.try_get("created")?,
        update_us: row.try_get("updated")?,
        sign_in_us: row.try_get("signed_in")?,
        invited_by: row.try_get("invited_by")?,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_somebody_looks_for_is_no_pattern() {
        assert_eq!(super::like("a_b%c!"), "%a!_b!%c!!%");
        assert_eq!(super::like(""), "%%");
    }
}
