//! Grants of roles and teams, and what was withdrawn, as edges are told of them. Pure.
//!
//! It must not know people: their bearers name the grants they have.

use std::collections::{BTreeMap, BTreeSet};

use trunkline::common::v1::Permission;
use trunkline::edge::v1 as edge;
use trunkline::identity::v1::Team;

use crate::rights::permission_set::PermissionSet;
use crate::store::withdrawals::WithdrawalRow;

pub(super) fn role(name: &str, gid: String, permissions: PermissionSet) -> edge::Grant {
    let role = edge::RoleGrant {
        may_call: permissions.contains(Permission::ServersCall),
        every_server: permissions.contains(Permission::RegistryAll),
    };
    edge::Grant { name: name.to_owned(), gid, kind: Some(edge::grant::Kind::Role(role)) }
}

pub(super) fn team(team: &Team, gid: String) -> edge::Grant {
    let everything = || vec!["*".to_owned()];
    let granted = match team.scope.clone() {
        Some(scope) => edge::TeamGrant {
            servers: scope.servers,
            tools: scope.tools,
            resources: scope.resources,
            prompts: scope.prompts,
        },
        None => edge::TeamGrant {
            servers: Vec::new(),
            tools: everything(),
            resources: everything(),
            prompts: everything(),
        },
    };
    edge::Grant { name: team.name.clone(), gid, kind: Some(edge::grant::Kind::Team(granted)) }
}

/// The name of what somebody has lost.
pub(super) fn withdrawal_name(uid: &str) -> String {
    format!("withdrawals/{uid}")
}

/// What somebody has lost. What was lost twice is said once, and nothing beside the loss of everything that it holds.
pub(super) fn withdrawal(uid: &str, lost: &BTreeSet<WithdrawalRow>) -> edge::Withdrawal {
    let is_all = |row: &&WithdrawalRow| row.role.is_empty() && row.team.is_empty();
    let epoch = lost.iter().filter(is_all).map(|row| row.epoch).max().unwrap_or_default();
    let mut pairs = BTreeMap::new();
    for row in lost.iter().filter(|row| !is_all(row) && row.epoch > epoch) {
        let newest: &mut i64 = pairs.entry((&row.role, &row.team)).or_default();
        *newest = row.epoch.max(*newest);
    }
    let pairs = pairs.into_iter().map(|((role, team), epoch)| edge::WithdrawnPair {
        epoch,
        pair: Some(edge::GrantPair { role: role.clone(), team: team.clone() }),
    });
    edge::Withdrawal { name: withdrawal_name(uid), uid: uid.to_owned(), epoch, pairs: pairs.collect() }
}

#[cfg(test)]
mod tests {
    use trunkline::identity::v1::Scope;

    use super::*;
    use crate::rights::roles::permissions_of;

    #[test]
    fn a_role_says_whether_it_calls_and_whether_everywhere() {
        let says = |name: &str| {
            let grant = role(name, "g".to_owned(), permissions_of(name).unwrap());
            let Some(edge::grant::Kind::Role(role)) = grant.kind else { panic!("{grant:?}") };
            (role.may_call, role.every_server)
        };
        assert_eq!(says("roles/administrator"), (true, true));
        assert_eq!(says("roles/developer"), (true, false));
        assert_eq!(says("roles/auditor"), (false, true));
        assert_eq!(says("roles/viewer"), (false, false));
    }

    #[test]
    fn a_team_without_scope_has_all_of_its_own_and_one_with_an_empty_scope_has_nothing() {
        let says = |scope: Option<Scope>| {
            let grant = team(&Team { name: "teams/a".to_owned(), scope, ..Team::default() }, "g".to_owned());
            let Some(edge::grant::Kind::Team(team)) = grant.kind else { panic!("{grant:?}") };
            (team.servers, team.tools, team.resources, team.prompts)
        };
        let all = || vec!["*".to_owned()];
        assert_eq!(says(None), (vec![], all(), all(), all()));
        assert_eq!(says(Some(Scope::default())), (vec![], vec![], vec![], vec![]));
    }

    #[test]
    fn losses_are_said_once_and_the_loss_of_everything_covers_those_before() {
        let row = |epoch, role: &str, team: &str| WithdrawalRow {
            uid: "u".to_owned(),
            epoch,
            role: role.to_owned(),
            team: team.to_owned(),
        };
        let lost = [row(1, "r", "t"), row(2, "", ""), row(3, "r", "t"), row(4, "r", "t"), row(4, "", "s")];
        let said = withdrawal("u", &lost.into());
        let pairs: Vec<_> = said.pairs.iter().map(|pair| (pair.epoch, pair.pair.clone().unwrap())).collect();
        let pair = |role: &str, team: &str| edge::GrantPair { role: role.to_owned(), team: team.to_owned() };
        assert_eq!((said.name.as_str(), said.epoch), ("withdrawals/u", 2));
        assert_eq!(pairs, [(4, pair("", "s")), (4, pair("r", "t"))]);
    }
}
