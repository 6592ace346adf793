//! What somebody may do: their roles, memberships and bindings put together.
//!
//! It must not know how they proved who they are.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use trunkline::identity::v1::{Role, UserState};

use super::row::{COLUMNS, Row};
use super::values::ROWS;
use super::withdrawals::Withdrawn;
use super::{Store, StoreError, Tx, values};
use crate::domain::Kind;
use crate::rights::permission_set::PermissionSet;
use crate::rights::{HeldRole, Rights, grant_id, roles};

/// The state of who is disabled, as it is stored.
const DISABLED: i64 = UserState::Disabled as i64;

/// Somebody, and what they may do unless they are disabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What they may do.
    pub rights: Rights,
    /// Whether they, or who answers for them, are disabled or gone.
    pub is_disabled: bool,
}

/// How principals are found.
#[derive(Debug, Clone, Copy)]
enum By {
    Uid,
    Name,
}

impl Store {
    /// What somebody may do, cut to `cap`. `None`: they, or who answers for them, are disabled or gone.
    pub async fn rights_of(
        &self,
        uid: &str,
        cap: Option<PermissionSet>,
    ) -> Result<Option<Rights>, StoreError> {
        let mut connection = self.pool().acquire().await?;
        let found = standings(&mut connection, By::Uid, &[uid], cap).await?.pop();
        Ok(found.filter(|standing| !standing.is_disabled).map(|standing| standing.rights))
    }

    /// Those of `names` that exist, and what they may do.
    pub async fn standings_named(&self, names: &[&str]) -> Result<Vec<Standing>, StoreError> {
        standings(&mut *self.pool().acquire().await?, By::Name, names, None).await
    }

    /// The pairs of grant ids, of role and team, that a bearer of somebody with these rights names.
    pub async fn grant_pairs(&self, rights: &Rights) -> Result<Vec<(String, String)>, StoreError> {
        pairs(&mut *self.pool().acquire().await?, &rights.grants()).await
    }

    /// The names of those of whom something changed after a revision that decides what they may do, or what their service accounts may.
    pub async fn principals_since(&self, revision: i64) -> Result<Vec<String>, StoreError> {
        let sql = "select name from principals where revision > $1 \
                   union select s.name from principals s join principals o on o.name = s.owner where o.revision > $1";
        let rows = sqlx::query(sql).bind(revision).fetch_all(self.pool()).await?;
        rows.iter().map(|row| Ok(row.try_get("name")?)).collect()
    }
}

impl Tx {
    /// Somebody, and what they may do.
    pub async fn standing_of(&mut self, uid: &str) -> Result<Option<Standing>, StoreError> {
        Ok(standings(self.connection(), By::Uid, &[uid], None).await?.pop())
    }

    /// Somebody by their name, and what they may do.
    pub async fn standing_named(&mut self, name: &str) -> Result<Option<Standing>, StoreError> {
        Ok(standings(self.connection(), By::Name, &[name], None).await?.pop())
    }

    /// Those of these identities who exist, and what they may do.
    pub async fn standings_of(&mut self, uids: &[String]) -> Result<Vec<Standing>, StoreError> {
        let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
        standings(self.connection(), By::Uid, &uids, None).await
    }

    /// Ends a change of what somebody may do, who had the rights `before`: withdraws what they lost.
    pub async fn note_rights(&mut self, before: &Rights) -> Result<(), StoreError> {
        let after = self.standing_of(&before.uid).await?;
        let after = after.map(|standing| standing.rights.grants()).unwrap_or_default();
        let lost = before.grants().difference(&after).cloned().collect();
        let lost = pairs(self.connection(), &lost).await?.into_iter();
        let lost: Vec<_> = lost.map(|(role_gid, team_gid)| Withdrawn::Pair { role_gid, team_gid }).collect();
        self.withdraw_many(&before.uid, &lost).await?;
        self.touch_principal(&before.uid).await
    }

    /// Says that what those may do has changed who have a role. Grants of roles change on edges by themselves.
    pub async fn touch_role(&mut self, role: &str) -> Result<(), StoreError> {
        let revision = self.revision();
        sqlx::query(
            "update principals set revision = $1 where uid in \
             (select uid from bindings where role = $2 union select uid from memberships where role = $2)",
        )
        .bind(revision)
        .bind(role)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The same of those who are in a team, or have a role in it.
    pub async fn touch_team(&mut self, team: &str) -> Result<(), StoreError> {
        let revision = self.revision();
        sqlx::query(
            "update principals set revision = $1 where uid in \
             (select uid from bindings where team = $2 union select uid from memberships where team = $2)",
        )
        .bind(revision)
        .bind(team)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

/// Those who exist, by name.
async fn standings(
    connection: &mut AnyConnection,
    by: By,
    keys: &[&str],
    cap: Option<PermissionSet>,
) -> Result<Vec<Standing>, StoreError> {
    let mut found = Vec::new();
    for keys in keys.chunks(ROWS) {
        let principals = principals(connection, by, keys).await?;
        let uids: Vec<&str> = principals.iter().map(|principal| principal.uid.as_str()).collect();
        let mut held = held(connection, &uids).await?;
        let roles = held.values().flat_map(|held| held.roles.iter().map(|(role, _)| role.as_str()));
        let permissions = permissions(connection, roles.collect()).await?;
        found.extend(principals.into_iter().map(|principal| {
            let held = held.remove(&principal.uid).unwrap_or_default();
            principal.with(held, &permissions, cap.unwrap_or_else(PermissionSet::all))
        }));
    }
    Ok(found)
}

/// A principal, and whether they are disabled.
struct Person {
    uid: String,
    name: String,
    is_disabled: bool,
}

/// The roles of a principal, each with the team in which they have it, and the teams they are in.
#[derive(Default)]
struct Held {
    roles: BTreeSet<(String, String)>,
    teams: BTreeSet<String>,
}

impl Person {
    fn with(self, held: Held, permissions: &BTreeMap<String, PermissionSet>, cap: PermissionSet) -> Standing {
        let roles = held.roles.into_iter().filter_map(|(role, team)| {
            let permissions = *permissions.get(&role)?;
            Some(HeldRole { role, team, permissions })
        });
        let rights = Rights::new(self.uid, self.name, roles.collect(), held.teams, cap);
        Standing { rights, is_disabled: self.is_disabled }
    }
}

async fn principals(
    connection: &mut AnyConnection,
    by: By,
    keys: &[&str],
) -> Result<Vec<Person>, StoreError> {
    let column = match by {
        By::Uid => "uid",
        By::Name => "name",
    };
    let sql = format!(
        "select p.uid, p.name, p.state, p.owner, coalesce(o.state, $1) as owner_state \
         from principals p left join principals o on o.name = p.owner where p.{column} in ({}) order by p.name",
        values::list(1, keys.len())
    );
    let query =
        keys.iter().fold(sqlx::query(AssertSqlSafe(sql)).bind(DISABLED), |query, key| query.bind(*key));
    let read = |row: &AnyRow| {
        let has_owner = !row.try_get::<String, _>("owner")?.is_empty();
        let by_owner = has_owner && row.try_get::<i64, _>("owner_state")? == DISABLED;
        let is_disabled = by_owner || row.try_get::<i64, _>("state")? == DISABLED;
        Ok(Person { uid: row.try_get("uid")?, name: row.try_get("name")?, is_disabled })
    };
    query.fetch_all(connection).await?.iter().map(read).collect()
}

async fn held(connection: &mut AnyConnection, uids: &[&str]) -> Result<BTreeMap<String, Held>, StoreError> {
    let mut found = BTreeMap::<String, Held>::new();
    if uids.is_empty() {
        return Ok(found);
    }
    let places = values::list(0, uids.len());
    let sql = format!(
        "select uid, team, role, is_owner, cast(1 as bigint) as is_member from memberships where uid in ({places}) \
         union all select uid, team, role, cast(0 as bigint), cast(0 as bigint) from bindings where uid in ({places})"
    );
    let query = uids.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, uid| query.bind(*uid));
    for row in query.fetch_all(connection).await? {
        let held = found.entry(row.try_get("uid")?).or_default();
        let (team, role): (String, String) = (row.try_get("team")?, row.try_get("role")?);
        if row.try_get::<i64, _>("is_member")? == 0 {
            held.roles.insert((role, team));
            continue;
        }
        let is_owner = row.try_get::<i64, _>("is_owner")? != 0;
        let roles = roles::of_member(is_owner, &role).into_iter();
        held.roles.extend(roles.map(|role| (role.to_owned(), team.clone())));
        held.teams.insert(team);
    }
    Ok(found)
}

/// What roles hold that exist.
async fn permissions(
    connection: &mut AnyConnection,
    names: BTreeSet<&str>,
) -> Result<BTreeMap<String, PermissionSet>, StoreError> {
    let (mut found, mut own) = (BTreeMap::new(), Vec::new());
    for name in names {
        match roles::permissions_of(name) {
            Some(permissions) => drop(found.insert(name.to_owned(), permissions)),
            None => own.push(name),
        }
    }
    for own in own.chunks(ROWS) {
        let places = values::list(1, own.len());
        let sql = format!(
            "select {COLUMNS} from resources r where r.kind = $1 and r.deleted = 0 and r.name in ({places})"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(Kind::Role.as_str());
        let query = own.iter().fold(query, |query, name| query.bind(*name));
        for row in query.fetch_all(&mut *connection).await? {
            let role: Role = Row::read(&row)?.message()?;
            found.insert(role.name, roles::permissions_named(&role.permissions));
        }
    }
    Ok(found)
}

/// The grant ids of pairs of a role and a team. What has never been is left out.
async fn pairs(
    connection: &mut AnyConnection,
    names: &BTreeSet<(String, String)>,
) -> Result<Vec<(String, String)>, StoreError> {
    let mut known = BTreeMap::<&str, Option<String>>::new();
    for name in names.iter().flat_map(|(role, team)| [role.as_str(), team.as_str()]) {
        if !known.contains_key(name) {
            known.insert(name, grant_id(connection, name).await?);
        }
    }
    let id = |name: &String| known.get(name.as_str()).cloned().flatten();
    let mut pairs: Vec<_> = names.iter().filter_map(|(role, team)| Some((id(role)?, id(team)?))).collect();
    pairs.sort();
    Ok(pairs)
}

/// The grant id of a role or a team, one that was deleted included; `None`: there never was one. Of no name it is empty.
async fn grant_id(connection: &mut AnyConnection, name: &str) -> Result<Option<String>, StoreError> {
    if name.is_empty() {
        return Ok(Some(String::new()));
    }
    if let Some(role) = roles::built_in(name) {
        return Ok(Some(grant_id::of(&role.uid())));
    }
    let row =
        sqlx::query("select uid from resources where kind in ('Role', 'Team') and name = $1").bind(name);
    let row = row.fetch_optional(connection).await?;
    row.map(|row| Ok(grant_id::of(&row.try_get::<String, _>("uid")?))).transpose()
}
