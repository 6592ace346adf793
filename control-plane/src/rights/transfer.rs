//! Whose a resource may be made, and by whom. Pure.

use trunkline::common::v1::{Permission, Visibility};

use super::permission_set::name;
use super::{Ownership, Rights};

/// Somebody would make a resource belong to whom they may not give it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTheirsToGive {
    /// They would show it to everybody.
    #[error("making it public takes {}", name(Permission::RegistryPublish))]
    Publish,
    /// They would choose its owner.
    #[error(
        "only its owner gives it away, and only to a team of theirs: set `meta.owner` to nobody and `meta.team` to that team; \
         anything else takes {}",
        name(Permission::RegistryAll)
    )]
    Owner,
    /// They would move it into a team, or out of one, in which they may not change such resources.
    #[error("moving it into or out of {team} takes {} there", name(*.write))]
    Team {
        /// The team.
        team: String,
        /// What they do not hold there.
        write: Permission,
    },
    /// They could not change it any more.
    #[error(
        "it would be out of your own reach: set `meta.owner`, `meta.team` or `meta.visibility` so that you may still change it"
    )]
    OutOfReach,
}

/// Checks that `by` may make a resource belong as `after` says, which takes `write` to change. `before`: as it was; `None`: it is new.
pub fn check_transfer(
    by: &Rights,
    write: Permission,
    before: Option<&Ownership>,
    after: &Ownership,
) -> Result<(), NotTheirsToGive> {
    if before == Some(after) {
        return Ok(());
    }
    let was_public = before.is_some_and(|before| before.visibility == Visibility::Public);
    let is_published = after.visibility == Visibility::Public && !was_public;
    if is_published && !by.may(Permission::RegistryPublish, after) {
        return Err(NotTheirsToGive::Publish);
    }
    if by.holds_for_all(write) {
        return Ok(());
    }
    check_owner(by, before, after)?;
    check_team(by, write, before, after)?;
    if by.may(write, after) { Ok(()) } else { Err(NotTheirsToGive::OutOfReach) }
}

fn check_owner(by: &Rights, before: Option<&Ownership>, after: &Ownership) -> Result<(), NotTheirsToGive> {
    let is_teams = after.owner.is_empty() && !after.team.is_empty();
    let is_allowed = match before {
        None => by.owns(after) || is_teams,
        Some(before) => before.owner == after.owner || (by.owns(before) && is_teams),
    };
    if is_allowed { Ok(()) } else { Err(NotTheirsToGive::Owner) }
}

/// A resource changes hands between teams, or from its owner to a team: whoever does it writes in each of them.
fn check_team(
    by: &Rights,
    write: Permission,
    before: Option<&Ownership>,
    after: &Ownership,
) -> Result<(), NotTheirsToGive> {
    let none = Ownership::default();
    let before = before.unwrap_or(&none);
    if before.team == after.team && before.owner == after.owner {
        return Ok(());
    }
    let teams = [&before.team, &after.team].into_iter().filter(|team| !team.is_empty());
    let mut foreign = teams.filter(|team| !by.in_team(team).contains(write));
    match foreign.next() {
        None => Ok(()),
        Some(team) => Err(NotTheirsToGive::Team { team: team.clone(), write }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::permission_set::PermissionSet;
    use super::super::{HeldRole, roles};
    use super::*;

    const WRITE: Permission = Permission::UpstreamsWrite;
    const PRIVATE: Visibility = Visibility::Private;
    const TEAM: Visibility = Visibility::Team;
    const PUBLIC: Visibility = Visibility::Public;

    /// Somebody with roles, in the teams in which they have them.
    fn ann(held: &[(&str, &str)]) -> Rights {
        let roles = held.iter().map(|(role, team)| HeldRole {
            role: (*role).to_owned(),
            team: (*team).to_owned(),
            permissions: roles::permissions_of(role).unwrap(),
        });
        let teams: BTreeSet<_> =
            held.iter().map(|(_, team)| (*team).to_owned()).filter(|team| !team.is_empty()).collect();
        Rights::new("a".to_owned(), "users/ann".to_owned(), roles.collect(), teams, PermissionSet::all())
    }

    fn of(owner: &str, team: &str, visibility: Visibility) -> Ownership {
        Ownership { owner: owner.to_owned(), team: team.to_owned(), visibility }
    }

    #[test]
    fn a_developer_gives_what_is_theirs_to_their_teams_only() {
        use NotTheirsToGive::{OutOfReach, Owner, Publish, Team};
        let ann = ann(&[("roles/developer", "teams/a"), ("roles/viewer", "teams/v")]);
        let (mine, others) = (of("users/ann", "", PRIVATE), of("users/bob", "teams/a", TEAM));
        let team = |team: &str| Team { team: team.to_owned(), write: WRITE };
        for (before, after, expected) in [
            (None, mine.clone(), Ok(())),
            (None, of("", "teams/a", TEAM), Ok(())),
            (None, of("users/ann", "teams/a", TEAM), Ok(())),
            (None, of("", "", PRIVATE), Err(Owner)),
            (None, of("users/bob", "", PRIVATE), Err(Owner)),
            (None, of("users/bob", "teams/a", TEAM), Err(Owner)),
            (None, of("", "teams/b", TEAM), Err(team("teams/b"))),
            (None, of("users/ann", "teams/v", TEAM), Err(team("teams/v"))),
            (None, of("users/ann", "", PUBLIC), Err(Publish)),
            (None, of("", "teams/a", PRIVATE), Err(OutOfReach)),
            (Some(&mine), of("", "teams/a", TEAM), Ok(())),
            (Some(&mine), of("users/bob", "teams/a", TEAM), Err(Owner)),
            (Some(&mine), of("", "", PRIVATE), Err(Owner)),
            (Some(&mine), of("", "teams/b", TEAM), Err(team("teams/b"))),
            (Some(&others), of("", "teams/a", TEAM), Err(Owner)),
            (Some(&others), of("users/ann", "teams/a", TEAM), Err(Owner)),
            (Some(&others), of("users/bob", "", PRIVATE), Err(OutOfReach)),
            (Some(&others), of("users/bob", "teams/a", PRIVATE), Err(OutOfReach)),
            (Some(&others), others.clone(), Ok(())),
        ] {
            assert_eq!(check_transfer(&ann, WRITE, before, &after), expected, "{before:?} to {after:?}");
        }
        let in_v = of("users/ann", "teams/v", TEAM);
        assert_eq!(check_transfer(&ann, WRITE, Some(&in_v), &mine), Err(team("teams/v")));
        // Who may write there may give it there; who owns it in a team where they may not write cannot.
        assert_eq!(check_transfer(&ann, WRITE, Some(&in_v), &of("", "teams/v", TEAM)), Err(team("teams/v")));
    }

    #[test]
    fn publishing_is_a_permission_of_its_own() {
        let owner = ann(&[("roles/team-owner", "teams/a")]);
        let before = of("", "teams/a", TEAM);
        assert_eq!(check_transfer(&owner, WRITE, Some(&before), &of("", "teams/a", PUBLIC)), Ok(()));
        let developer = ann(&[("roles/developer", "teams/a")]);
        let public = of("", "teams/a", PUBLIC);
        let publish = Err(NotTheirsToGive::Publish);
        assert_eq!(check_transfer(&developer, WRITE, Some(&before), &public), publish);
        assert_eq!(check_transfer(&developer, WRITE, Some(&public), &before), Ok(()), "hiding it is none");
    }

    #[test]
    fn registry_all_gives_everything_to_everybody() {
        let administrator = Rights::administrator();
        for after in [of("users/bob", "teams/b", PUBLIC), of("", "", PRIVATE), of("", "teams/b", PRIVATE)] {
            assert_eq!(check_transfer(&administrator, WRITE, None, &after), Ok(()));
            assert_eq!(
                check_transfer(&administrator, WRITE, Some(&of("users/ann", "", TEAM)), &after),
                Ok(())
            );
        }
    }
}
