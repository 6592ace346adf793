//! People as the audit log shows them: what they are, may do and prove who they are with, without any secret.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use trunkline::identity::v1::UserState;

use super::super::{StoreError, Tx};
use super::changes::Picture;

impl Tx {
    /// Notes what somebody is before this write changes it.
    pub(in super::super) async fn note_person(&mut self, uid: &str) -> Result<(), StoreError> {
        if self.changes.author.is_none() || self.changes.people.contains_key(uid) {
            return Ok(());
        }
        let before = picture(self.connection(), uid).await?;
        self.changes.people.insert(uid.to_owned(), before);
        Ok(())
    }

    /// What became of those whom this write has changed.
    pub(super) async fn people_changed(
        &mut self,
        people: &BTreeMap<String, Option<(String, Value)>>,
    ) -> Result<Vec<Picture>, StoreError> {
        let mut changed = Vec::new();
        for (uid, before) in people {
            let after = picture(self.connection(), uid).await?;
            if *before == after {
                continue;
            }
            let name = after.as_ref().or(before.as_ref()).map(|(name, _)| name.clone()).unwrap_or_default();
            let picture = |of: Option<(String, Value)>| of.map(|(_, picture)| picture);
            changed.push((name, picture(before.clone()), picture(after)));
        }
        Ok(changed)
    }

    /// Notes who has a role, or is in a team, that this write deletes.
    pub(in super::super) async fn note_holders_of(&mut self, name: &str) -> Result<(), StoreError> {
        const MOST: i64 = 1_000;
        let sql = "SELECT p.name AS text FROM principals p WHERE p.uid IN (SELECT uid FROM bindings WHERE role = $1 OR team = $1 \
                   UNION SELECT uid FROM memberships WHERE role = $1 OR team = $1) ORDER BY p.name LIMIT $2";
        let rows = sqlx::query(sql).bind(name).bind(MOST).fetch_all(self.connection()).await?;
        let names = rows.iter().map(|row| row.try_get("text")).collect::<sqlx::Result<_>>()?;
        self.note_holders(name, names);
        Ok(())
    }
}

/// Somebody's name, and what they are. `None`: there is nobody of that uid.
async fn picture(connection: &mut AnyConnection, uid: &str) -> Result<Option<(String, Value)>, StoreError> {
    let sql = "SELECT name, email, title, owner, team, state FROM principals WHERE uid = $1";
    let row = sqlx::query(sql).bind(uid).fetch_optional(&mut *connection).await?;
    let Some(row) = row else { return Ok(None) };
    let name: String = row.try_get("name")?;
    let (email, state): (Option<String>, i64) = (row.try_get("email")?, row.try_get("state")?);
    let state = i32::try_from(state).ok().and_then(|state| UserState::try_from(state).ok());
    let mut picture = json!({
        "name": name,
        "email": email.unwrap_or_default(),
        "title": row.try_get::<String, _>("title")?,
        "owner": row.try_get::<String, _>("owner")?,
        "team": row.try_get::<String, _>("team")?,
        "state": state.unwrap_or_default().as_str_name(),
    });
    for (member, sql, read) in PARTS {
        let rows = sqlx::query(*sql).bind(uid).fetch_all(&mut *connection).await?;
        picture[*member] = rows.iter().map(read).collect::<sqlx::Result<Vec<Value>>>()?.into();
    }
    if let Some(parts) = picture.as_object_mut() {
        parts.retain(|_, part| *part != json!("") && *part != json!([]));
    }
    Ok(Some((name, picture)))
}

type Part = (&'static str, &'static str, fn(&AnyRow) -> sqlx::Result<Value>);

/// What somebody has, by the table that has it. Hashes of secrets stay where they are.
const PARTS: &[Part] = &[
    ("bindings", "SELECT role, team FROM bindings WHERE uid = $1 ORDER BY role, team", |row| {
        Ok(json!({ "role": text(row, "role")?, "team": text(row, "team")? }))
    }),
    ("memberships", "SELECT team, is_owner, role FROM memberships WHERE uid = $1 ORDER BY team", |row| {
        let is_owner = row.try_get::<i64, _>("is_owner")? != 0;
        Ok(json!({ "team": text(row, "team")?, "owner": is_owner, "role": text(row, "role")? }))
    }),
    ("passwords", "SELECT changed, must_change FROM passwords WHERE uid = $1 AND phc <> ''", |row| {
        let must_change = row.try_get::<i64, _>("must_change")? != 0;
        Ok(json!({ "changedUs": row.try_get::<i64, _>("changed")?, "mustChange": must_change }))
    }),
    ("keys", "SELECT id, title, role, expires FROM api_keys WHERE uid = $1 ORDER BY id", |row| {
        let expires: i64 = row.try_get("expires")?;
        Ok(
            json!({ "id": text(row, "id")?, "title": text(row, "title")?, "role": text(row, "role")?, "expiresUs": expires }),
        )
    }),
    (
        "links",
        "SELECT purpose, created FROM one_time_links WHERE uid = $1 AND used = 0 ORDER BY purpose, created",
        |row| Ok(json!({ "purpose": text(row, "purpose")?, "createdUs": row.try_get::<i64, _>("created")? })),
    ),
    ("sessions", "SELECT id FROM sessions WHERE uid = $1 ORDER BY id", |row| Ok(text(row, "id")?.into())),
];

fn text(row: &AnyRow, column: &str) -> sqlx::Result<String> {
    row.try_get(column)
}
