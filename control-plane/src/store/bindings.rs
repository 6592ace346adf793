//! Who has which role, beside those of memberships. It must not know what roles hold.

use sqlx::Row as _;

use super::{Store, StoreError, Tx};
use crate::rights::roles::of_member;

/// A role that somebody was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BindingRow {
    /// `roles/{role}`.
    pub role: String,
    /// `teams/{team}`. Empty: everywhere.
    pub team: String,
}

impl Store {
    /// The roles that somebody was given, by name.
    pub async fn bindings_of(&self, uid: &str) -> Result<Vec<BindingRow>, StoreError> {
        let rows =
            sqlx::query("select role, team from bindings where uid = $1 order by role, team").bind(uid);
        let rows = rows.fetch_all(self.pool()).await?;
        rows.iter()
            .map(|row| Ok(BindingRow { role: row.try_get("role")?, team: row.try_get("team")? }))
            .collect()
    }

    /// The roles that anybody has, memberships included.
    pub async fn roles_in_use(&self) -> Result<Vec<String>, StoreError> {
        let sql = "select role, cast(0 as bigint) as is_owner, cast(0 as bigint) as is_member from bindings \
                   union select role, is_owner, cast(1 as bigint) from memberships";
        let mut roles = Vec::new();
        for row in sqlx::query(sql).fetch_all(self.pool()).await? {
            let role: String = row.try_get("role")?;
            if row.try_get::<i64, _>("is_member")? == 0 {
                roles.push(role);
            } else {
                let is_owner = row.try_get::<i64, _>("is_owner")? != 0;
                roles.extend(of_member(is_owner, &role).into_iter().map(str::to_owned));
            }
        }
        roles.sort();
        roles.dedup();
        Ok(roles)
    }
}

impl Tx {
    /// Gives somebody a role. Follow it with `note_rights`. Answers whether they did not have it.
    pub async fn bind(
        &mut self,
        uid: &str,
        binding: &BindingRow,
        added_by: &str,
    ) -> Result<bool, StoreError> {
        let now_us = self.now_us();
        self.note_person(uid).await?;
        let done = sqlx::query(
            "insert into bindings (uid, role, team, created, added_by) values ($1, $2, $3, $4, $5) \
             on conflict (uid, role, team) do nothing",
        )
        .bind(uid)
        .bind(binding.role.as_str())
        .bind(binding.team.as_str())
        .bind(now_us)
        .bind(added_by)
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Takes a role from somebody. Follow it with `note_rights`. Answers whether they had it.
    pub async fn unbind(&mut self, uid: &str, binding: &BindingRow) -> Result<bool, StoreError> {
        self.note_person(uid).await?;
        let done = sqlx::query("delete from bindings where uid = $1 and role = $2 and team = $3")
            .bind(uid)
            .bind(binding.role.as_str())
            .bind(binding.team.as_str());
        Ok(done.execute(self.connection()).await?.rows_affected() > 0)
    }

    /// The roles that somebody was given in a team.
    pub async fn roles_bound(&mut self, uid: &str, team: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("select role from bindings where uid = $1 and team = $2 order by role");
        let rows = rows.bind(uid).bind(team).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok(row.try_get("role")?)).collect()
    }

    /// The identities of all who were given a role.
    pub async fn uids_bound_to(&mut self, role: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("select distinct uid from bindings where role = $1 order by uid").bind(role);
        let rows = rows.fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok(row.try_get("uid")?)).collect()
    }

    /// The identities of all who were given a role in a team.
    pub async fn uids_bound_in(&mut self, team: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("select distinct uid from bindings where team = $1 order by uid").bind(team);
        let rows = rows.fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok(row.try_get("uid")?)).collect()
    }

    /// Takes a role from all who have it. Members who have no other in their team leave it: they would be more in it, or nothing.
    pub async fn forget_role(&mut self, role: &str) -> Result<(), StoreError> {
        self.note_holders_of(role).await?;
        for sql in [
            "delete from bindings where role = $1",
            "delete from memberships where role = $1 and is_owner = 0",
            "update memberships set role = '' where role = $1",
        ] {
            sqlx::query(sql).bind(role).execute(self.connection()).await?;
        }
        Ok(())
    }

    /// Takes all roles in a team from all who were given them, and everybody out of it.
    pub async fn empty_team(&mut self, team: &str) -> Result<(), StoreError> {
        self.note_holders_of(team).await?;
        for sql in ["delete from bindings where team = $1", "delete from memberships where team = $1"] {
            sqlx::query(sql).bind(team).execute(self.connection()).await?;
        }
        Ok(())
    }
}
