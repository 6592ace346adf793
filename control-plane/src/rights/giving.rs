//! Nobody gives what they do not have: what is checked wherever rights are handed on, by bindings, memberships, keys and links. It
//! must not know how they are handed on.

use trunkline::common::v1::Permission;

use super::permission_set::{PermissionSet, name};
use super::{ADMINISTRATOR, Rights};

/// Permissions that make more of themselves: who gives them must have them everywhere, also to somebody in one team.
const ONLY_FROM_EVERYWHERE: [Permission; 2] = [Permission::RegistryAll, Permission::RolesWrite];

/// Somebody would give what they do not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nobody gives what they do not have, and the caller does not have {}{}", list(*.missing), place(.team))]
pub struct NotTheirs {
    /// What they do not have.
    pub missing: PermissionSet,
    /// Where they would have to have it. Empty: everywhere.
    pub team: String,
}

/// Checks that `giver` has all of `given` in `team`, where they give it. Empty: everywhere.
pub fn check_gives(giver: &Rights, given: PermissionSet, team: &str) -> Result<(), NotTheirs> {
    let special = PermissionSet::from_iter(ONLY_FROM_EVERYWHERE);
    let everywhere = giver.everywhere();
    let in_team = giver.in_team(team).difference(special);
    let has = match team {
        "" => everywhere,
        // Who may use what they have everywhere on everything has it in every team.
        _ if everywhere.contains(Permission::RegistryAll) => everywhere.union(in_team),
        _ => everywhere.intersection(special).union(in_team),
    };
    let missing = given.difference(has);
    match missing.is_empty() {
        true => Ok(()),
        false => Err(NotTheirs { missing, team: team.to_owned() }),
    }
}

/// Checks that `giver` has whatever `other` has, so that they may act in their place: choose how they sign in, or make a key of theirs.
pub fn check_stands_above(giver: &Rights, other: &Rights) -> Result<(), NotTheirs> {
    if giver.name == ADMINISTRATOR {
        return Ok(());
    }
    other.roles().iter().try_for_each(|held| {
        let is_their_own = giver.uid == other.uid && giver.roles().contains(held);
        if is_their_own { Ok(()) } else { check_gives(giver, held.permissions, &held.team) }
    })
}

fn list(missing: PermissionSet) -> String {
    missing.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn place(team: &str) -> String {
    if team.is_empty() { " everywhere".to_owned() } else { format!(" in {team}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::HeldRole;
    use super::*;

    fn set<const N: usize>(permissions: [Permission; N]) -> PermissionSet {
        permissions.into_iter().collect()
    }

    fn rights(uid: &str, roles: &[(&str, PermissionSet)]) -> Rights {
        let roles = roles.iter().map(|(team, permissions)| HeldRole {
            role: "roles/r".to_owned(),
            team: (*team).to_owned(),
            permissions: *permissions,
        });
        let roles: Vec<_> = roles.collect();
        let teams: BTreeSet<_> =
            roles.iter().map(|held| held.team.clone()).filter(|team| !team.is_empty()).collect();
        Rights::new(uid.to_owned(), format!("users/{uid}"), roles, teams, PermissionSet::all())
    }

    const READ: Permission = Permission::RegistryRead;
    const WRITE: Permission = Permission::ServersWrite;
    const ALL: Permission = Permission::RegistryAll;
    const ROLES: Permission = Permission::RolesWrite;

    #[test]
    fn what_one_has_in_a_team_one_gives_in_that_team() {
        let owner = rights("o", &[("teams/a", set([READ, WRITE]))]);
        check_gives(&owner, set([WRITE]), "teams/a").unwrap();
        for team in ["", "teams/b"] {
            let error = check_gives(&owner, set([WRITE]), team).unwrap_err();
            assert_eq!(error, NotTheirs { missing: set([WRITE]), team: team.to_owned() });
        }
        let error =
            check_gives(&owner, set([WRITE, Permission::KeysRotate]), "teams/a").unwrap_err().to_string();
        assert_eq!(
            error,
            "nobody gives what they do not have, and the caller does not have keys.rotate in teams/a"
        );
    }

    #[test]
    fn who_has_all_gives_in_every_team_and_others_where_they_are() {
        let administrator = rights("a", &[("", PermissionSet::all())]);
        check_gives(&administrator, PermissionSet::all(), "teams/b").unwrap();
        let writer = rights("w", &[("", set([WRITE]))]);
        check_gives(&writer, set([WRITE]), "").unwrap();
        assert!(check_gives(&writer, set([WRITE]), "teams/b").is_err(), "they are not in that team");
    }

    #[test]
    fn what_makes_more_of_itself_comes_from_everywhere_only() {
        let owner = rights("o", &[("teams/a", set([ALL, ROLES, WRITE]))]);
        for special in [ALL, ROLES] {
            assert!(check_gives(&owner, set([special]), "teams/a").is_err(), "{special:?}");
        }
    }

    #[test]
    fn nobody_acts_in_the_place_of_who_has_more() {
        let administrator = rights("a", &[("", PermissionSet::all())]);
        let clerk = rights("c", &[("", set([READ, Permission::PeopleWrite]))]);
        assert!(check_stands_above(&clerk, &administrator).is_err());
        check_stands_above(&administrator, &clerk).unwrap();
        check_stands_above(&Rights::administrator(), &administrator).unwrap();
    }

    #[test]
    fn everybody_stands_above_themselves_as_far_as_their_credential_reaches() {
        let owner = rights("o", &[("teams/a", set([ALL, WRITE]))]);
        check_stands_above(&owner, &owner).unwrap();
        let capped = Rights::new(
            "o".to_owned(),
            "users/o".to_owned(),
            owner.roles().to_vec(),
            owner.teams().clone(),
            set([READ]),
        );
        assert!(check_stands_above(&capped, &owner).is_err(), "a key that is capped makes none that is not");
    }
}
