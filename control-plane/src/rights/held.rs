//! What a caller may do: the permissions they hold, everywhere and in teams. It must not know how they proved who they are, nor where
//! roles and memberships are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use trunkline::common::v1::{Permission, Visibility};

use super::permission_set::PermissionSet;

/// The principal of the administrator's bearer.
pub const ADMINISTRATOR: &str = "system/administrator";

/// Permissions over what belongs to no team: who has them in a team only does not hold them.
const OF_THE_INSTALLATION: [Permission; 7] = [
    Permission::RegistryAll,
    Permission::AuditRead,
    Permission::FleetRead,
    Permission::FleetWrite,
    Permission::KeysRead,
    Permission::KeysRotate,
    Permission::SystemRead,
];

/// A role that somebody has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldRole {
    /// `roles/{role}`.
    pub role: String,
    /// The team in which they have it: `teams/{team}`. Empty: everywhere.
    pub team: String,
    /// The permissions of the role.
    pub permissions: PermissionSet,
}

/// Whose a resource is. By default: nobody's, and private.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// The name of the principal who owns it. Empty: nobody.
    pub owner: String,
    /// `teams/{team}`. Empty: none.
    pub team: String,
    /// Who else may see it: never unspecified.
    pub visibility: Visibility,
}

impl Ownership {
    /// The same, where its owner has no part in the team.
    pub fn without_team(self) -> Self {
        Self { team: String::new(), visibility: Visibility::Private, ..self }
    }
}

impl Default for Ownership {
    fn default() -> Self {
        Self { owner: String::new(), team: String::new(), visibility: Visibility::Private }
    }
}

/// What a caller may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// The identity of the principal. Empty: the administrator's bearer.
    pub uid: String,
    /// `users/{user}`, `serviceAccounts/{service_account}` or [`ADMINISTRATOR`].
    pub name: String,
    /// The name of the session or API key that proved it. Empty: the administrator's bearer.
    pub through: String,
    /// When that ends, in microseconds. `None`: never.
    pub end_us: Option<i64>,
    /// Whether they must choose another password before anything else.
    pub must_change_password: bool,
    /// Whether that is an API key that may do no more than a role: what is theirs as a person it does not reach.
    pub is_limited: bool,
    roles: Vec<HeldRole>,
    /// Of the roles, by name and team: those that give more at edges than they are cut to.
    narrowed: BTreeSet<(String, String)>,
    teams: BTreeSet<String>,
    everywhere: PermissionSet,
    in_teams: BTreeMap<String, PermissionSet>,
}

impl Rights {
    /// The rights of the administrator's bearer: all of them.
    pub fn administrator() -> Arc<Self> {
        static ALL: LazyLock<Arc<Rights>> = LazyLock::new(|| {
            Arc::new(Rights {
                name: ADMINISTRATOR.to_owned(),
                everywhere: PermissionSet::all(),
                ..Rights::default()
            })
        });
        ALL.clone()
    }

    /// The rights of somebody who has `roles`, each cut to `cap`, and is in `teams`.
    pub fn new(
        uid: String,
        name: String,
        roles: Vec<HeldRole>,
        teams: BTreeSet<String>,
        cap: PermissionSet,
    ) -> Self {
        Self::cut(uid, name, roles, teams, |_| cap)
    }

    /// The rights of a service account that `owner` answers for: each role cut to `cap`, and to what its owner holds in the same place.
    /// Teams that they are not in it is not in either.
    pub fn below(
        owner: &Rights,
        uid: String,
        name: String,
        mut roles: Vec<HeldRole>,
        mut teams: BTreeSet<String>,
        cap: PermissionSet,
    ) -> Self {
        roles.retain(|held| !held.permissions.intersection(owner.reach(&held.team)).is_empty());
        teams.retain(|team| owner.sees_all() || owner.teams.contains(team));
        Self::cut(uid, name, roles, teams, |team| cap.intersection(owner.reach(team)))
    }

    /// The permissions that somebody holds in a team, or everywhere, and may let a service account of theirs hold there. Who may use what
    /// they have everywhere on everything has it in every team.
    fn reach(&self, team: &str) -> PermissionSet {
        match team {
            "" => self.everywhere,
            _ if self.sees_all() => self.everywhere.union(self.in_team(team)),
            _ => self.in_team(team),
        }
    }

    fn cut(
        uid: String,
        name: String,
        mut roles: Vec<HeldRole>,
        teams: BTreeSet<String>,
        cap: impl Fn(&str) -> PermissionSet,
    ) -> Self {
        roles.sort();
        let of_the_installation = PermissionSet::from_iter(OF_THE_INSTALLATION);
        let (mut everywhere, mut in_teams) = (PermissionSet::default(), BTreeMap::new());
        let at_edges: PermissionSet =
            [Permission::ServersCall, Permission::RegistryAll].into_iter().collect();
        let is_narrowed = |held: &&HeldRole| {
            !held.permissions.intersection(at_edges).difference(cap(&held.team)).is_empty()
        };
        let narrowed =
            roles.iter().filter(is_narrowed).map(|held| (held.role.clone(), held.team.clone())).collect();
        for held in &mut roles {
            held.permissions = held.permissions.intersection(cap(&held.team));
            if held.team.is_empty() {
                everywhere = everywhere.union(held.permissions);
                continue;
            }
            let in_team = in_teams.entry(held.team.clone()).or_insert_with(PermissionSet::default);
            *in_team = in_team.union(held.permissions.difference(of_the_installation));
        }
        Self { uid, name, roles, narrowed, teams, everywhere, in_teams, ..Self::default() }
    }

    /// The roles they have, those of their teams included.
    pub fn roles(&self) -> &[HeldRole] {
        &self.roles
    }

    /// The grants by which edges know them, as pairs of a role and a team; an empty team is everywhere. A role that they have everywhere
    /// counts in their teams where no other lets them call. One that gives more than they are cut to is none.
    pub fn grants(&self) -> BTreeSet<(String, String)> {
        let pair = |held: &HeldRole| (held.role.clone(), held.team.clone());
        let roles = || self.roles.iter().filter(|held| !self.narrowed.contains(&pair(held)));
        let calling = || roles().filter(|held| held.permissions.contains(Permission::ServersCall));
        let mut grants: BTreeSet<_> = roles().map(pair).collect();
        if let Some(everywhere) = calling().find(|held| held.team.is_empty()) {
            let has_caller: BTreeSet<_> = calling().map(|held| held.team.as_str()).collect();
            let silent = self.teams.iter().filter(|team| !has_caller.contains(team.as_str()));
            grants.extend(silent.map(|team| (everywhere.role.clone(), team.clone())));
        }
        grants
    }

    /// The teams of which they see what is shared: those that they are in, or have a role in.
    pub fn seen_teams(&self) -> impl Iterator<Item = &str> {
        let with_roles = self.in_teams.keys().filter(|team| !self.teams.contains(*team));
        self.teams.iter().chain(with_roles).map(String::as_str)
    }

    /// Tells whether a team is one of theirs: they are in it, have a role there, or everything is theirs.
    pub fn has_part_in(&self, team: &str) -> bool {
        self.sees_all() || self.seen_teams().any(|seen| seen == team)
    }

    /// The teams they are in.
    pub fn teams(&self) -> &BTreeSet<String> {
        &self.teams
    }

    /// The permissions they hold everywhere.
    pub fn everywhere(&self) -> PermissionSet {
        self.everywhere
    }

    /// The permissions they hold in a team: those of everywhere included where they are in it.
    pub fn in_team(&self, team: &str) -> PermissionSet {
        let held = self.in_teams.get(team).copied().unwrap_or_default();
        if self.teams.contains(team) { held.union(self.everywhere) } else { held }
    }

    /// Tells whether they hold a permission anywhere.
    pub fn holds(&self, permission: Permission) -> bool {
        self.everywhere.contains(permission) || self.in_teams.values().any(|held| held.contains(permission))
    }

    /// Tells whether they hold a permission on the resources of everybody.
    pub fn holds_for_all(&self, permission: Permission) -> bool {
        self.everywhere.contains(permission) && self.everywhere.contains(Permission::RegistryAll)
    }

    /// Tells whether every resource exists for them.
    pub fn sees_all(&self) -> bool {
        self.everywhere.contains(Permission::RegistryAll)
    }

    /// Tells whether a resource exists for them.
    pub fn sees(&self, of: &Ownership) -> bool {
        self.sees_all()
            || self.owns(of)
            || match of.visibility {
                Visibility::Public => true,
                Visibility::Team => self.teams.contains(&of.team) || self.in_teams.contains_key(&of.team),
                Visibility::Private | Visibility::Unspecified => false,
            }
    }

    /// Tells whether a resource exists for them, and they hold the permission to read such where it is.
    pub fn reads(&self, read: Permission, of: &Ownership) -> bool {
        let is_public = of.visibility == Visibility::Public;
        self.sees(of) && ((is_public && self.holds(read)) || self.may(read, of))
    }

    /// Tells whether they may use a permission on a resource.
    pub fn may(&self, permission: Permission, of: &Ownership) -> bool {
        if self.holds_for_all(permission) {
            return true;
        }
        let is_shared_with_team = !of.team.is_empty() && of.visibility != Visibility::Private;
        (self.owns(of) && self.holds(permission))
            || (is_shared_with_team && self.in_team(&of.team).contains(permission))
    }

    /// Tells whether a resource is theirs.
    pub fn owns(&self, of: &Ownership) -> bool {
        !self.name.is_empty() && self.name == of.owner
    }
}

#[cfg(test)]
mod tests {
    use super::super::roles;
    use super::*;

    fn rights(held: &[(&str, &str)], teams: &[&str], cap: PermissionSet) -> Rights {
        let held = held.iter().map(|(role, team)| HeldRole {
            role: (*role).to_owned(),
            team: (*team).to_owned(),
            permissions: roles::permissions_of(role).unwrap(),
        });
        let teams = teams.iter().map(|&team| team.to_owned()).collect();
        Rights::new("u".to_owned(), "users/ann@example.org".to_owned(), held.collect(), teams, cap)
    }

    fn grants(held: &[(&str, &str)], teams: &[&str], cap: PermissionSet) -> Vec<String> {
        let grants = rights(held, teams, cap).grants();
        grants.into_iter().map(|(role, team)| format!("{role} {team}").trim_end().to_owned()).collect()
    }

    #[test]
    fn a_role_of_everywhere_counts_in_teams_where_no_other_calls() {
        let all = PermissionSet::all();
        let (viewer, developer) = ("roles/viewer", "roles/developer");
        assert_eq!(grants(&[(viewer, "teams/a")], &["teams/a"], all), ["roles/viewer teams/a"]);
        assert_eq!(
            grants(&[(viewer, "teams/a"), (developer, "")], &["teams/a"], all),
            ["roles/developer", "roles/developer teams/a", "roles/viewer teams/a"]
        );
        assert_eq!(
            grants(&[("roles/team-owner", "teams/a"), (developer, "")], &["teams/a"], all),
            ["roles/developer", "roles/team-owner teams/a"]
        );
        let elsewhere = grants(&[(viewer, "teams/b"), (developer, "")], &[], all);
        assert_eq!(elsewhere, ["roles/developer", "roles/viewer teams/b"]);
    }

    #[test]
    fn what_is_cut_gives_no_more_at_edges_than_here() {
        let developer = roles::permissions_of("roles/developer").unwrap();
        let viewer = roles::permissions_of("roles/viewer").unwrap();
        let held = [("roles/administrator", ""), ("roles/developer", "teams/a"), ("roles/viewer", "teams/a")];
        assert_eq!(
            grants(&held, &["teams/a"], developer),
            ["roles/developer teams/a", "roles/viewer teams/a"]
        );
        assert_eq!(grants(&held, &["teams/a"], viewer), ["roles/viewer teams/a"]);
    }

    /// A service account with these roles that somebody answers for.
    fn below(owner: &Rights, held: &[(&str, &str)], teams: &[&str]) -> Rights {
        let account = rights(held, teams, PermissionSet::all());
        let (roles, teams) = (account.roles().to_vec(), account.teams().clone());
        Rights::below(
            owner,
            "s".to_owned(),
            "serviceAccounts/s".to_owned(),
            roles,
            teams,
            PermissionSet::all(),
        )
    }

    #[test]
    fn a_service_account_has_at_most_what_its_owner_has_in_the_same_place() {
        let all = PermissionSet::all();
        let (developer, owner) = ("roles/developer", "roles/team-owner");
        let held = [(owner, "teams/a"), (developer, "teams/b"), (developer, "")];
        let ann = rights(&[(developer, "teams/a")], &["teams/a"], all);
        let account = below(&ann, &held, &["teams/a", "teams/b"]);
        assert_eq!(account.in_team("teams/a"), ann.in_team("teams/a"));
        assert_eq!((account.in_team("teams/b"), account.everywhere()), Default::default());
        assert_eq!(account.seen_teams().collect::<Vec<_>>(), ["teams/a"]);
        let pairs: Vec<_> = account.grants().into_iter().collect();
        assert_eq!(pairs, [(owner.to_owned(), "teams/a".to_owned())]);
        // Who left has nothing to give; who may do everything bounds nothing.
        assert_eq!(below(&rights(&[], &[], all), &held, &["teams/a"]).roles(), []);
        let administrator = rights(&[("roles/administrator", "")], &[], all);
        let account = below(&administrator, &held, &["teams/a"]);
        assert_eq!(account.roles(), rights(&held, &["teams/a"], all).roles());
        // To see a team's things lets nothing be called there.
        let viewer = rights(&[("roles/viewer", "teams/a")], &["teams/a"], all);
        assert_eq!(below(&viewer, &held[..1], &["teams/a"]).grants(), Default::default());
    }

    #[test]
    fn what_is_read_is_read_where_the_permission_is_held() {
        let read = Permission::TokensRead;
        let viewer = rights(&[("roles/viewer", "teams/b")], &["teams/a", "teams/b"], PermissionSet::all());
        let of = |owner: &str, team: &str, visibility| Ownership {
            owner: owner.to_owned(),
            team: team.to_owned(),
            visibility,
        };
        for (of, expected) in [
            (of("", "teams/a", Visibility::Team), false),
            (of("", "teams/b", Visibility::Team), true),
            (of("", "teams/a", Visibility::Public), true),
            (of("users/ann@example.org", "", Visibility::Private), true),
            (of("users/bob", "teams/b", Visibility::Private), false),
        ] {
            assert_eq!(viewer.reads(read, &of), expected, "{of:?}");
        }
        assert!(Rights::administrator().reads(read, &of("users/bob", "", Visibility::Private)));
    }

    const WRITE: Permission = Permission::ServersWrite;

    fn holding(roles: &[(&str, &[Permission])], teams: &[&str]) -> Rights {
        let held = |(team, permissions): &(&str, &[Permission])| HeldRole {
            role: "roles/r".to_owned(),
            team: (*team).to_owned(),
            permissions: permissions.iter().copied().collect(),
        };
        let teams = teams.iter().map(|team| (*team).to_owned()).collect();
        let roles = roles.iter().map(held).collect();
        Rights::new("u".to_owned(), "users/ann".to_owned(), roles, teams, PermissionSet::all())
    }

    fn of(owner: &str, team: &str, visibility: Visibility) -> Ownership {
        Ownership { owner: owner.to_owned(), team: team.to_owned(), visibility }
    }

    #[test]
    fn what_is_held_everywhere_reaches_neither_private_things_nor_other_teams() {
        let writer = holding(&[("", &[WRITE])], &["teams/a"]);
        for (owner, team, visibility, sees, may) in [
            ("users/ann", "", Visibility::Private, true, true),
            ("users/ann", "teams/b", Visibility::Private, true, true),
            ("users/bob", "", Visibility::Private, false, false),
            ("users/bob", "", Visibility::Public, true, false),
            ("users/bob", "teams/a", Visibility::Private, false, false),
            ("users/bob", "teams/a", Visibility::Team, true, true),
            ("", "teams/a", Visibility::Team, true, true),
            ("", "teams/b", Visibility::Team, false, false),
            ("", "teams/b", Visibility::Public, true, false),
            ("", "", Visibility::Private, false, false),
            ("", "", Visibility::Team, false, false),
        ] {
            let of = of(owner, team, visibility);
            assert_eq!((writer.sees(&of), writer.may(WRITE, &of)), (sees, may), "{of:?}");
        }
    }

    #[test]
    fn registry_all_is_held_everywhere_or_not_at_all() {
        let everything = of("users/bob", "teams/b", Visibility::Private);
        let all = holding(&[("", &[WRITE, Permission::RegistryAll])], &[]);
        assert!(all.sees(&everything) && all.may(WRITE, &everything));
        let in_team = holding(&[("teams/a", &[WRITE, Permission::RegistryAll])], &["teams/a"]);
        assert!(!in_team.sees(&everything) && !in_team.may(WRITE, &everything));
        assert!(!in_team.holds(Permission::RegistryAll) && in_team.holds(WRITE));
    }

    #[test]
    fn what_is_of_the_installation_is_not_held_in_a_team() {
        let of_all: Vec<Permission> = PermissionSet::all().iter().collect();
        let in_team = holding(&[("teams/a", &of_all)], &["teams/a"]);
        for permission in OF_THE_INSTALLATION {
            assert!(!in_team.holds(permission), "{permission:?}");
        }
        assert!(in_team.holds(Permission::TeamsWrite));
        assert_eq!(in_team.roles()[0].permissions, PermissionSet::all(), "the role is shown as it is");
    }

    #[test]
    fn nobody_is_nobodys_owner() {
        let nobody = Rights::default();
        assert!(!nobody.owns(&Ownership::default()) && !nobody.sees(&of("", "", Visibility::Team)));
    }
}
