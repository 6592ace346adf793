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

/// Who is looked for, by what they have.
#[derive(Debug, Clone, Default)]
pub struct HoldersOf {
    /// Whoever there is.
    pub everybody: bool,
    /// Teams: who is in one, or has a role in one.
    pub teams: Vec<String>,
    /// Roles: who has one, wherever.
    pub roles: Vec<String>,
    /// Names.
    pub names: Vec<String>,
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

    /// Owners of servers who have no part in the team of theirs, each with that team.
    pub async fn outsiders(&self) -> Result<BTreeSet<(String, String)>, StoreError> {
        let sql = "select distinct owner, team from resources \
                   where kind = 'Server' and deleted = 0 and owner <> '' and team <> ''";
        let rows = sqlx::query(sql).fetch_all(self.pool()).await?;
        let pairs: BTreeSet<(String, String)> = rows
            .iter()
            .map(|row| Ok((row.try_get("owner")?, row.try_get("team")?)))
            .collect::<Result<_, StoreError>>()?;
        let owners: BTreeSet<&str> = pairs.iter().map(|(owner, _)| owner.as_str()).collect();
        let owners = self.standings_named(&owners.into_iter().collect::<Vec<_>>()).await?;
        let owners: BTreeMap<&str, &Rights> =
            owners.iter().map(|owner| (owner.rights.name.as_str(), &owner.rights)).collect();
        let is_inside =
            |owner: &str, team: &str| owners.get(owner).is_some_and(|owner| owner.has_part_in(team));
        Ok(pairs.iter().filter(|(owner, team)| !is_inside(owner, team)).cloned().collect())
    }

    /// The names of those who have something in one of these teams, one of these roles, a role everywhere, or one of these names; all
    /// where there are too many to ask for. By name, so many at most.
    pub async fn holders_of(&self, of: &HoldersOf, limit: i64) -> Result<Vec<String>, StoreError> {
        let [teams, roles, names] = [&of.teams, &of.roles, &of.names].map(Vec::len);
        let is_narrow = !of.everybody && teams.max(roles).max(names) <= ROWS;
        let among = |column: &str, before: usize, count: usize| match count {
            0 => String::new(),
            count => format!(" or {column} in ({})", values::list(before, count)),
        };
        let held = format!("{}{}", among("team", 1, teams), among("role", 1 + teams, roles));
        let condition = format!(
            " where uid in (select uid from bindings where team = ''{held} \
             union select uid from memberships where 1 = 0{held}){}",
            among("name", 1 + teams + roles, names)
        );
        let condition = if is_narrow { condition } else { String::new() };
        let sql = format!("select name from principals{condition} order by name limit $1");
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(limit);
        for value in of.teams.iter().chain(&of.roles).chain(&of.names).filter(|_| is_narrow) {
            query = query.bind(value.as_str());
        }
        let rows = query.fetch_all(self.pool()).await?;
        rows.iter().map(|row| Ok(row.try_get("name")?)).collect()
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
        let after = self.standing_of(&before.uid).await?.map(|standing| standing.rights).unwrap_or_default();
        self.withdraw_lost(before, &after).await?;
        // What they answer for loses with them.
        for account in owned(self.connection(), &before.name).await? {
            let was = account.clone().below(before);
            self.withdraw_lost(&was, &account.below(&after)).await?;
        }
        Ok(())
    }

    async fn withdraw_lost(&mut self, before: &Rights, after: &Rights) -> Result<(), StoreError> {
        let lost = before.grants().difference(&after.grants()).cloned().collect();
        let lost = pairs(self.connection(), &lost).await?.into_iter();
        let lost: Vec<_> = lost.map(|(role_gid, team_gid)| Withdrawn::Pair { role_gid, team_gid }).collect();
        self.withdraw_many(&before.uid, &lost).await?;
        self.touch_principal(&before.uid).await
    }

    /// Ends the bearers of all service accounts for whom somebody answers who has a role: what it holds no more, they hold no more.
    pub async fn withdraw_below(&mut self, role: &str) -> Result<(), StoreError> {
        let rows = sqlx::query(
            "select s.uid from principals s join principals o on o.name = s.owner where o.uid in \
             (select uid from bindings where role = $1 union select uid from memberships where role = $1)",
        )
        .bind(role)
        .fetch_all(self.connection())
        .await?;
        for row in rows {
            self.withdraw(row.try_get("uid")?, Withdrawn::All).await?;
        }
        Ok(())
    }

    /// Those of `names` that exist, and what they may do.
    pub async fn standings_named(&mut self, names: &[&str]) -> Result<Vec<Standing>, StoreError> {
        standings(self.connection(), By::Name, names, None).await
    }

    /// Says that what those may do has changed who have a role. Grants of roles change on edges by themselves.
    pub async fn touch_role(&mut self, role: &str) -> Result<(), StoreError> {
        self.touch_holders("role", role).await
    }

    /// The same of those who are in a team, or have a role in it.
    pub async fn touch_team(&mut self, team: &str) -> Result<(), StoreError> {
        self.touch_holders("team", team).await
    }

    async fn touch_holders(&mut self, column: &'static str, name: &str) -> Result<(), StoreError> {
        let revision = self.revision();
        let sql = format!(
            "update principals set revision = $1 where uid in \
             (select uid from bindings where {column} = $2 union select uid from memberships where {column} = $2)"
        );
        sqlx::query(AssertSqlSafe(sql)).bind(revision).bind(name).execute(self.connection()).await?;
        Ok(())
    }
}

/// Those who exist, by name. A service account has no more than who answers for it has now.
async fn standings(
    connection: &mut AnyConnection,
    by: By,
    keys: &[&str],
    cap: Option<PermissionSet>,
) -> Result<Vec<Standing>, StoreError> {
    let cap = cap.unwrap_or_else(PermissionSet::all);
    let found = people(connection, by, keys).await?;
    let owners: BTreeSet<&str> =
        found.iter().map(|person| person.owner.as_str()).filter(|owner| !owner.is_empty()).collect();
    let owners: Vec<&str> = owners.into_iter().collect();
    let owners = people(connection, By::Name, &owners).await?.into_iter();
    let owners: BTreeMap<String, Rights> =
        owners.map(|owner| (owner.name.clone(), owner.rights(PermissionSet::all()))).collect();
    let nobody = Rights::default();
    let standing = |person: Person| {
        let is_disabled = person.is_disabled;
        let owner = (!person.owner.is_empty()).then(|| owners.get(&person.owner).unwrap_or(&nobody));
        let rights = match owner {
            None => person.rights(cap),
            Some(owner) => person.below_to(owner, cap),
        };
        Standing { rights, is_disabled }
    };
    Ok(found.into_iter().map(standing).collect())
}

/// The service accounts that somebody answers for.
async fn owned(connection: &mut AnyConnection, owner: &str) -> Result<Vec<Person>, StoreError> {
    let rows = sqlx::query("select name from principals where owner = $1 and owner <> ''").bind(owner);
    let rows = rows.fetch_all(&mut *connection).await?;
    let names: Vec<String> = rows.iter().map(|row| row.try_get("name")).collect::<Result<_, _>>()?;
    people(connection, By::Name, &names.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Those who exist, by name, with the roles that they were given.
async fn people(connection: &mut AnyConnection, by: By, keys: &[&str]) -> Result<Vec<Person>, StoreError> {
    let mut found = Vec::new();
    for keys in keys.chunks(ROWS) {
        let principals = principals(connection, by, keys).await?;
        let uids: Vec<&str> = principals.iter().map(|principal| principal.uid.as_str()).collect();
        let mut held = held(connection, &uids).await?;
        let roles = held.values().flat_map(|held| held.roles.iter().map(|(role, _)| role.as_str()));
        let permissions = permissions(connection, roles.collect()).await?;
        found.extend(principals.into_iter().map(|principal| {
            let held = held.remove(&principal.uid).unwrap_or_default();
            principal.with(held, &permissions)
        }));
    }
    Ok(found)
}

/// A principal, whether they are disabled, and what they were given.
#[derive(Clone)]
struct Person {
    uid: String,
    name: String,
    /// Who answers for it. Empty: nobody.
    owner: String,
    is_disabled: bool,
    roles: Vec<HeldRole>,
    teams: BTreeSet<String>,
}

/// The roles of a principal, each with the team in which they have it, and the teams they are in.
#[derive(Default)]
struct Held {
    roles: BTreeSet<(String, String)>,
    teams: BTreeSet<String>,
}

impl Person {
    fn with(self, held: Held, permissions: &BTreeMap<String, PermissionSet>) -> Self {
        let roles = held.roles.into_iter().filter_map(|(role, team)| {
            let permissions = *permissions.get(&role)?;
            Some(HeldRole { role, team, permissions })
        });
        Self { roles: roles.collect(), teams: held.teams, ..self }
    }

    fn rights(self, cap: PermissionSet) -> Rights {
        Rights::new(self.uid, self.name, self.roles, self.teams, cap)
    }

    fn below(self, owner: &Rights) -> Rights {
        self.below_to(owner, PermissionSet::all())
    }

    fn below_to(self, owner: &Rights, cap: PermissionSet) -> Rights {
        Rights::below(owner, self.uid, self.name, self.roles, self.teams, cap)
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
        let owner: String = row.try_get("owner")?;
        let by_owner = !owner.is_empty() && row.try_get::<i64, _>("owner_state")? == DISABLED;
        let is_disabled = by_owner || row.try_get::<i64, _>("state")? == DISABLED;
        let (roles, teams) = (Vec::new(), BTreeSet::new());
        Ok(Person { uid: row.try_get("uid")?, name: row.try_get("name")?, owner, is_disabled, roles, teams })
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
