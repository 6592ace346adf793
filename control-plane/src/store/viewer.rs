//! Who looks at the log: conditions of statements that find only what exists for somebody.
//!
//! It must not know what they may do to it.

use sqlx::{Any, Executor};
use trunkline::common::v1::{Permission, Visibility};

use super::row::ownership;
use super::{StoreError, values};
use crate::domain::Kind;
use crate::rights::{Ownership, Rights};

/// Somebody who looks at the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Viewer(Option<Names>);

/// By what somebody sees who does not see everything.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Names {
    /// `None`: nobody, whose name would be that of what nobody owns.
    principal: Option<String>,
    teams: Vec<String>,
}

impl Viewer {
    /// Somebody who sees everything.
    pub fn of_everything() -> Self {
        Self(None)
    }

    /// Somebody with these rights, who looks at what takes this permission to be read: in teams, where they hold it.
    pub fn of(rights: &Rights, read: Permission) -> Self {
        let is_read = |team: &&str| rights.in_team(team).contains(read);
        let names = || Names {
            principal: Some(rights.name.clone()).filter(|name| !name.is_empty()),
            teams: rights.seen_teams().filter(is_read).map(str::to_owned).collect(),
        };
        Self((!rights.holds_for_all(read)).then(names))
    }

    /// The condition for rows `r` of a kind, after those of `before` other values; empty where everything is seen. What it needs is in
    /// `values`.
    pub(super) fn condition(&self, kind: Kind, before: usize) -> String {
        match (&self.0, kind.in_catalogue()) {
            (None, _) => String::new(),
            (Some(names), false) => format!(" and {}", names.sees("r", before)),
            (Some(names), true) => format!(
                " and r.parent in (select u.name from resources u where u.kind = '{}' and u.deleted = 0 and {})",
                Kind::Upstream,
                names.sees("u", before)
            ),
        }
    }

    /// Tells whether it is somebody who sees everything.
    pub(super) fn sees_everything(&self) -> bool {
        self.0.is_none()
    }

    /// The condition for counted calls: those of servers that exist for them, by tokens that do, by themselves, or by nobody who is
    /// known; `others`: also those by others at servers of their own, or of their teams.
    pub(super) fn usage_condition(&self, before: usize, others: bool) -> String {
        let Some(names) = &self.0 else { return String::new() };
        let seen = |kind: Kind| {
            let condition = self.condition(kind, before);
            format!("(select r.name from resources r where r.kind = '{kind}' and r.deleted = 0{condition})")
        };
        let own =
            names.principal.as_ref().map(|_| format!(" or token = ${}", before + 1)).unwrap_or_default();
        let (servers, tokens) = (seen(Kind::Server), seen(Kind::Token));
        let held = names.holds("r", before).filter(|_| others);
        let theirs = held.map(|held| {
            let kind = Kind::Server;
            format!(" or server in (select r.name from resources r where r.kind = '{kind}' and r.deleted = 0 and ({held}))")
        });
        let theirs = theirs.unwrap_or_default();
        format!(" AND server in {servers} AND (token = '' or token in {tokens}{own}{theirs})")
    }

    /// Their own name, unless they see everything or have none.
    pub(super) fn principal(&self) -> Option<&str> {
        self.0.as_ref()?.principal.as_deref()
    }

    /// The values that a condition needs.
    pub(super) fn values(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|names| names.principal.iter().chain(&names.teams)).map(String::as_str)
    }
}

impl Names {
    /// What [`Rights::reads`] says, for rows of a table.
    fn sees(&self, table: &str, before: usize) -> String {
        let public = format!("{table}.visibility = {}", Visibility::Public as i32);
        match self.holds(table, before) {
            Some(held) => format!("({public} or {held})"),
            None => format!("({public})"),
        }
    }

    /// Whether a row is their own, or is shared in a team of theirs. `None`: there is no such row.
    fn holds(&self, table: &str, before: usize) -> Option<String> {
        let shared = Visibility::Team as i32;
        let own = self.principal.as_ref().map(|_| format!("{table}.owner = ${}", before + 1));
        let teams = values::list(before + usize::from(self.principal.is_some()), self.teams.len());
        let of_teams = (!self.teams.is_empty())
            .then(|| format!("({table}.visibility = {shared} and {table}.team in ({teams}))"));
        let held: Vec<_> = own.into_iter().chain(of_teams).collect();
        (!held.is_empty()).then(|| held.join(" or "))
    }
}

/// Whose a resource is that exists.
pub(super) async fn owned<'c>(
    executor: impl Executor<'c, Database = Any>,
    kind: Kind,
    name: &str,
) -> Result<Option<Ownership>, StoreError> {
    let row = sqlx::query(
        "select owner, team, visibility from resources where kind = $1 and name = $2 and deleted = 0",
    )
    .bind(kind.as_str())
    .bind(name)
    .fetch_optional(executor)
    .await?;
    Ok(row.as_ref().map(ownership).transpose()?)
}
