//! What a write touches: at which servers, with which tokens, and of which people anything may be different after it. Pure.
//!
//! It must not know what is different.

use std::collections::{BTreeMap, BTreeSet};

use trunkline::admin::v1::{Change, ChangeAction};
use trunkline::common::v1::Visibility;
use trunkline::identity::v1::{Team, Token};
use trunkline::registry::v1::Server;

use crate::domain::{Kind, Steps, members, names};
use crate::snapshot::leads_to;
use crate::store::rights::HoldersOf;
use crate::store::{Row, StoreError};

/// The steps of comparing the patterns of servers with upstreams that are written, some 0.05 s.
const MAX_STEPS: usize = 50_000_000;
/// The steps of comparing one with the name of an upstream.
const STEPS_A_NAME: usize = 32;
/// Every server, in a scope.
const ALL: &str = "*";

/// Resources that exist, by kind and name.
pub(super) type Rows = BTreeMap<(Kind, String), Row>;

/// What a write touches.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// By id; the values mean nothing.
    upstreams: BTreeMap<String, i64>,
    names: BTreeMap<Kind, BTreeSet<String>>,
}

pub(super) fn rows(rows: Vec<Row>) -> Rows {
    rows.into_iter().map(|row| ((row.kind, row.name.clone()), row)).collect()
}

/// What there is after these were written.
pub(super) fn overlaid(before: &Rows, written: &[Row]) -> Rows {
    let mut after = before.clone();
    for row in written.iter().filter(|row| super::DECIDING.contains(&row.kind)) {
        let key = (row.kind, row.name.clone());
        match row.deleted {
            true => drop(after.remove(&key)),
            false => drop(after.insert(key, row.clone())),
        }
    }
    after
}

impl Touched {
    pub(super) fn by(changes: &[Change]) -> Self {
        let mut touched = Self::default();
        for change in changes.iter().filter(|change| change.action() != ChangeAction::Unchanged) {
            if let Some(id) = names::upstream_id(&change.name) {
                touched.upstreams.insert(id.to_owned(), 0);
            } else if let Some(kind) = names::kind_of(&change.name) {
                touched.names.entry(kind).or_default().insert(change.name.clone());
            }
        }
        touched
    }

    pub(super) fn is_empty(&self) -> bool {
        self.upstreams.is_empty() && self.names.is_empty()
    }

    /// Whether people may hold something else after it: who holds a role that is another.
    pub(super) fn changes_people(&self) -> bool {
        self.names.contains_key(&Kind::Role)
    }

    /// The servers at which anybody may gain or lose something.
    pub(super) fn servers(&self, rows: &[Rows; 2]) -> Result<BTreeSet<String>, StoreError> {
        let mut found = self.own_servers(rows)?;
        let mut scopes = BTreeSet::new();
        for row in self.touched(Kind::Token, rows) {
            scopes.extend(row.message::<Token>()?.scope.unwrap_or_default().servers);
        }
        for row in self.touched(Kind::Team, rows) {
            scopes.extend(row.message::<Team>()?.scope.unwrap_or_default().servers);
            found.extend(
                all(Kind::Server, rows).filter(|s| s.ownership.team == row.name).map(|s| s.name.clone()),
            );
        }
        if scopes.contains(ALL) || self.names.contains_key(&Kind::Role) {
            found.extend(all(Kind::Server, rows).map(|row| row.name.clone()));
        }
        found.extend(scopes);
        Ok(found)
    }

    /// The tokens that may gain or lose something.
    pub(super) fn tokens(&self, rows: &[Rows; 2]) -> BTreeSet<String> {
        match self.is_of_tokens_alone() {
            true => self.names.get(&Kind::Token).cloned().unwrap_or_default(),
            false => all(Kind::Token, rows).map(|row| row.name.clone()).collect(),
        }
    }

    /// The people who may gain or lose something. `None`: nobody.
    pub(super) fn people(&self, rows: &[Rows; 2]) -> Result<Option<HoldersOf>, StoreError> {
        if self.is_of_tokens_alone() {
            return Ok(None);
        }
        let own = self.own_servers(rows)?;
        let mut teams = self.names.get(&Kind::Team).cloned().unwrap_or_default();
        let (mut owners, mut everybody) = (BTreeSet::new(), false);
        for row in all(Kind::Server, rows).filter(|row| own.contains(&row.name)) {
            everybody |= row.ownership.visibility == Visibility::Public;
            teams.insert(row.ownership.team.clone());
            owners.insert(row.ownership.owner.clone());
        }
        for row in all(Kind::Team, rows).filter(|_| !own.is_empty()) {
            let scope = row.message::<Team>()?.scope.unwrap_or_default();
            if scope.servers.iter().any(|server| server == ALL || own.contains(server)) {
                teams.insert(row.name.clone());
            }
        }
        let named = |names: BTreeSet<String>| names.into_iter().filter(|name| !name.is_empty()).collect();
        let roles = self.names.get(&Kind::Role).cloned().unwrap_or_default();
        Ok(Some(HoldersOf { everybody, teams: named(teams), roles: named(roles), names: named(owners) }))
    }

    fn is_of_tokens_alone(&self) -> bool {
        self.upstreams.is_empty() && self.names.keys().all(|kind| *kind == Kind::Token)
    }

    /// The servers that are touched themselves, or by what they expose.
    fn own_servers(&self, rows: &[Rows; 2]) -> Result<BTreeSet<String>, StoreError> {
        let mut found = self.names.get(&Kind::Server).cloned().unwrap_or_default();
        let mut left = Steps::new(MAX_STEPS);
        for row in all(Kind::Server, rows).filter(|_| !self.upstreams.is_empty()) {
            if leads_into(&row.message::<Server>()?, &self.upstreams, &mut left) {
                found.insert(row.name.clone());
            }
        }
        Ok(found)
    }

    fn touched<'a>(&'a self, kind: Kind, rows: &'a [Rows; 2]) -> impl Iterator<Item = &'a Row> {
        let names = self.names.get(&kind);
        all(kind, rows).filter(move |row| names.is_some_and(|names| names.contains(&row.name)))
    }
}

/// Whether a server selects from one of these upstreams. Where that takes more steps than are left it may: who writes waits for this.
fn leads_into(server: &Server, upstreams: &BTreeMap<String, i64>, left: &mut Steps) -> bool {
    let members = members::lists(server).into_iter().flat_map(|(_, members)| members);
    let patterns = members.filter(|member| glob::is_pattern(&member.r#match)).count();
    let is_enough = left.take(patterns.saturating_mul(upstreams.len()).saturating_mul(STEPS_A_NAME));
    !is_enough || leads_to(server, upstreams).is_some()
}

/// All of a kind, as they were and as they are.
pub(super) fn all(kind: Kind, rows: &[Rows; 2]) -> impl Iterator<Item = &Row> {
    rows.iter().flat_map(BTreeMap::values).filter(move |row| row.kind == kind)
}

#[cfg(test)]
mod tests {
    use trunkline::registry::v1::Member;

    use super::*;

    #[test]
    fn what_takes_too_long_to_be_told_may_be_touched() {
        let member = |text: &str| Member { r#match: text.to_owned(), ..Member::default() };
        let server = |patterns: &[&str]| Server {
            tools: patterns.iter().map(|text| member(text)).collect(),
            ..Server::default()
        };
        let upstreams: BTreeMap<_, _> = ["a", "b", "c"].map(|id| (id.to_owned(), 0)).into();
        let mut left = Steps::new(7 * STEPS_A_NAME);
        let mut found = |patterns: &[&str]| leads_into(&server(patterns), &upstreams, &mut left);
        assert!(found(&["a*/x"]) && !found(&["d*/x"]) && !found(&["d/x"]), "six of seven steps");
        assert!(found(&["d*/x"]), "there are no more");
        assert!(!found(&["d/x"]), "what is named is found without any");
    }
}
