//! Who is in which team. It must not know what anybody may do there.

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Store, StoreError, Tx};

const COLUMNS: &str = "m.team, m.uid, m.is_owner, m.role, m.created, m.added_by, p.name as principal";

/// Somebody in a team.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberRow {
    /// `teams/{team}`.
    pub team: String,
    /// The identity of the principal.
    pub uid: String,
    /// The name of the principal.
    pub principal: String,
    /// Whether they own the team.
    pub is_owner: bool,
    /// `roles/{role}`. Empty: the one that members, or owners, have.
    pub role: String,
    /// Since when.
    pub create_us: i64,
    /// The name of who added them.
    pub added_by: String,
    /// Whether they are not in the team, and were given a role there.
    pub is_bound: bool,
}

impl MemberRow {
    /// What rows of a team are sorted by.
    pub fn place(&self) -> String {
        format!("{} {}", self.principal, if self.is_bound { &self.role } else { "" })
    }
}

impl Store {
    /// The members of a team, and who was given a role in it, whose places come after `after`, in order.
    pub async fn members(&self, team: &str, after: &str, limit: i64) -> Result<Vec<MemberRow>, StoreError> {
        let all = "select team, uid, is_owner, role, created, added_by, cast(0 as bigint) as is_bound, '' as bound_to \
                   from memberships where team = $1 \
                   union all select team, uid, cast(0 as bigint), role, created, added_by, cast(1 as bigint), role \
                   from bindings where team = $1";
        let place = r#"(p.name || ' ' || m.bound_to) collate "binary""#;
        let sql = format!(
            "select {COLUMNS}, m.is_bound from ({all}) m join principals p on p.uid = m.uid \
             where {place} > $2 order by {place} limit $3"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(team).bind(after).bind(limit);
        let read = |row| Ok(MemberRow { is_bound: row_is_bound(row)?, ..read(row)? });
        rows.fetch_all(self.pool()).await?.iter().map(read).collect()
    }

    /// The teams that somebody is in, or was given a role in.
    pub async fn places_of(&self, uid: &str) -> Result<Vec<String>, StoreError> {
        let sql = "select team from memberships where uid = $1 \
                   union select team from bindings where uid = $1 and team <> '' order by team";
        let rows = sqlx::query(sql).bind(uid).fetch_all(self.pool()).await?;
        rows.iter().map(|row| Ok(row.try_get("team")?)).collect()
    }

    /// The teams that somebody is in, by name.
    pub async fn teams_of(&self, uid: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("select team from memberships where uid = $1 order by team").bind(uid);
        let rows = rows.fetch_all(self.pool()).await?;
        rows.iter().map(|row| Ok(row.try_get("team")?)).collect()
    }
}

impl Tx {
    /// What somebody is in a team.
    pub async fn member(&mut self, team: &str, uid: &str) -> Result<Option<MemberRow>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from memberships m join principals p on p.uid = m.uid where m.team = $1 and m.uid = $2"
        );
        let row =
            sqlx::query(AssertSqlSafe(sql)).bind(team).bind(uid).fetch_optional(self.connection()).await?;
        row.as_ref().map(read).transpose()
    }

    /// Puts somebody into a team, or changes what they are in it. Follow it with `note_rights`.
    pub async fn put_member(&mut self, member: &MemberRow) -> Result<(), StoreError> {
        let now_us = self.now_us();
        self.note_person(&member.uid).await?;
        sqlx::query(
            "insert into memberships (team, uid, is_owner, role, created, added_by) values ($1, $2, $3, $4, $5, $6) \
             on conflict (team, uid) do update set is_owner = excluded.is_owner, role = excluded.role",
        )
        .bind(member.team.as_str())
        .bind(member.uid.as_str())
        .bind(i64::from(member.is_owner))
        .bind(member.role.as_str())
        .bind(now_us)
        .bind(member.added_by.as_str())
        .execute(self.connection())
        .await?;
        self.touch();
        Ok(())
    }

    /// Takes somebody out of a team. Follow it with `note_rights`. Answers whether they were in it.
    pub async fn remove_member(&mut self, team: &str, uid: &str) -> Result<bool, StoreError> {
        self.note_person(uid).await?;
        let done = sqlx::query("delete from memberships where team = $1 and uid = $2").bind(team).bind(uid);
        Ok(done.execute(self.connection()).await?.rows_affected() > 0)
    }

    /// Whether somebody else owns a team.
    pub async fn has_other_owner(&mut self, team: &str, uid: &str) -> Result<bool, StoreError> {
        let row =
            sqlx::query("select uid from memberships where team = $1 and is_owner = 1 and uid <> $2 limit 1");
        Ok(row.bind(team).bind(uid).fetch_optional(self.connection()).await?.is_some())
    }

    /// The identities of all who are in a team.
    pub async fn uids_in(&mut self, team: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("select uid from memberships where team = $1 order by uid").bind(team);
        let rows = rows.fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok(row.try_get("uid")?)).collect()
    }

    /// The identities of all to whom a membership gives a role.
    pub async fn uids_as(&mut self, role: &str) -> Result<Vec<String>, StoreError> {
        let rows =
            sqlx::query("select distinct uid from memberships where role = $1 order by uid").bind(role);
        let rows = rows.fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok(row.try_get("uid")?)).collect()
    }
}

fn row_is_bound(row: &AnyRow) -> Result<bool, StoreError> {
    Ok(row.try_get::<i64, _>("is_bound")? != 0)
}

fn read(row: &AnyRow) -> Result<MemberRow, StoreError> {
    Ok(MemberRow {
        team: row.try_get("team")?,
        uid: row.try_get("uid")?,
        principal: row.try_get("principal")?,
        is_owner: row.try_get::<i64, _>("is_owner")? != 0,
        role: row.try_get("role")?,
        create_us: row.try_get("created")?,
        added_by: row.try_get("added_by")?,
        is_bound: false,
    })
}
