//! What a caller may do: the permissions they hold, everywhere and in teams. It must not know how they proved who they are, nor where
//! roles and memberships are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use trunkline::common::v1::{Permission, Visibility};

use super::permission_set::PermissionSet;

/// The principal of the administrator's bearer.
pub const ADMINISTRATOR: &str = "system/administrator";

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

/// Whose a resource is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ownership {
    /// The name of the principal who owns it. Empty: nobody.
    pub owner: String,
    /// `teams/{team}`. Empty: none.
    pub team: String,
    /// Who else may see it: never unspecified.
    pub visibility: Visibility,
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
    roles: Vec<HeldRole>,
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
        mut roles: Vec<HeldRole>,
        teams: BTreeSet<String>,
        cap: PermissionSet,
    ) -> Self {
        roles.sort();
        let (mut everywhere, mut in_teams) = (PermissionSet::default(), BTreeMap::new());
        for held in &mut roles {
            held.permissions = held.permissions.intersection(cap);
            let into = match held.team.as_str() {
                "" => &mut everywhere,
                team => in_teams.entry(team.to_owned()).or_insert_with(PermissionSet::default),
            };
            *into = into.union(held.permissions);
        }
        Self { uid, name, roles, teams, everywhere, in_teams, ..Self::default() }
    }

    /// The roles they have, those of their teams included.
    pub fn roles(&self) -> &[HeldRole] {
        &self.roles
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

    /// Tells whether a resource exists for them.
    pub fn sees(&self, of: &Ownership) -> bool {
        self.everywhere.contains(Permission::RegistryAll)
            || self.owns(of)
            || match of.visibility {
                Visibility::Public => true,
                Visibility::Team => self.teams.contains(&of.team) || self.in_teams.contains_key(&of.team),
                Visibility::Private | Visibility::Unspecified => false,
            }
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

    fn owns(&self, of: &Ownership) -> bool {
        !self.name.is_empty() && self.name == of.owner
    }
}
