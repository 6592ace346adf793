//! The roles that are built in, and what they hold. Nobody changes them, so they are in no table.

use trunkline::common::v1::Permission;
use trunkline::identity::v1::Role;

use super::permission_set::PermissionSet;

/// The role that members have in their team unless another is said.
pub const DEVELOPER: &str = "roles/developer";
/// The role that owners have in their team.
pub const TEAM_OWNER: &str = "roles/team-owner";
/// The role that holds everything.
pub const ADMINISTRATOR: &str = "roles/administrator";

/// A role that is built in.
#[derive(Debug, Clone, Copy)]
pub struct BuiltIn {
    /// `roles/{role}`.
    pub name: &'static str,
    title: &'static str,
    description: &'static str,
    permissions: Held,
}

/// The permissions of a role that is built in.
#[derive(Debug, Clone, Copy)]
enum Held {
    All,
    These(&'static [Permission]),
}

/// All of them, by name.
pub const BUILT_IN: [BuiltIn; 5] = [
    BuiltIn {
        name: ADMINISTRATOR,
        title: "Administrator",
        description: "May do everything.",
        permissions: Held::All,
    },
    BuiltIn {
        name: "roles/auditor",
        title: "Auditor",
        description: "Sees everything, and changes nothing.",
        permissions: Held::These(&[
            Permission::RegistryRead,
            Permission::RegistryAll,
            Permission::TokensRead,
            Permission::PeopleRead,
            Permission::AccessExplain,
            Permission::AuditRead,
            Permission::UsageRead,
            Permission::FleetRead,
            Permission::KeysRead,
            Permission::SystemRead,
        ]),
    },
    BuiltIn {
        name: DEVELOPER,
        title: "Developer",
        description: "Makes upstreams, servers and tokens, and calls servers.",
        permissions: Held::These(&[
            Permission::RegistryRead,
            Permission::UpstreamsWrite,
            Permission::ServersWrite,
            Permission::ServersCall,
            Permission::TokensRead,
            Permission::TokensIssue,
            Permission::UsageRead,
        ]),
    },
    BuiltIn {
        name: TEAM_OWNER,
        title: "Team owner",
        description: "Does what a developer does, publishes, looks after the members of a team, and approves calls.",
        permissions: Held::These(&[
            Permission::RegistryRead,
            Permission::RegistryPublish,
            Permission::UpstreamsWrite,
            Permission::ServersWrite,
            Permission::ServersCall,
            Permission::TokensRead,
            Permission::TokensIssue,
            Permission::PeopleRead,
            Permission::TeamsWrite,
            Permission::AccessExplain,
            Permission::UsageRead,
            Permission::ApprovalsDecide,
        ]),
    },
    BuiltIn {
        name: "roles/viewer",
        title: "Viewer",
        description: "Sees, and changes nothing.",
        permissions: Held::These(&[Permission::RegistryRead, Permission::TokensRead, Permission::UsageRead]),
    },
];

impl BuiltIn {
    /// What it holds.
    pub fn permissions(&self) -> PermissionSet {
        match self.permissions {
            Held::All => PermissionSet::all(),
            Held::These(permissions) => permissions.iter().copied().collect(),
        }
    }

    /// The identity that its grant is named by.
    pub fn uid(&self) -> String {
        format!("built-in:{}", self.name.trim_start_matches("roles/"))
    }

    /// The role as the contract has it.
    pub fn role(&self) -> Role {
        Role {
            name: self.name.to_owned(),
            meta: None,
            title: self.title.to_owned(),
            description: self.description.to_owned(),
            permissions: self.permissions().names(),
            built_in: true,
        }
    }
}

/// Finds a role that is built in, by its name.
pub fn built_in(name: &str) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|role| role.name == name)
}

/// What a role holds that is built in; `None`: it is not.
pub fn permissions_of(name: &str) -> Option<PermissionSet> {
    built_in(name).map(BuiltIn::permissions)
}

/// What the permissions of a role come to, by their names. Those that are not known are none.
pub fn permissions_named(names: &[String]) -> PermissionSet {
    names.iter().filter_map(|name| super::permission_set::parse(name)).collect()
}

/// The roles that a membership gives in its team.
pub fn of_member(is_owner: bool, role: &str) -> Vec<&str> {
    match (is_owner, role) {
        (true, "" | TEAM_OWNER) => vec![TEAM_OWNER],
        (true, other) => vec![TEAM_OWNER, other],
        (false, "") => vec![DEVELOPER],
        (false, other) => vec![other],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_roles_hold_what_is_documented() {
        let names: Vec<_> = BUILT_IN.iter().map(|role| role.name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(names, sorted, "lists are by name");
        assert_eq!(permissions_of(ADMINISTRATOR), Some(PermissionSet::all()));
        let viewer = permissions_of("roles/viewer").unwrap();
        assert_eq!(viewer.names(), ["registry.read", "tokens.read", "usage.read"]);
        let (owner, developer) = (permissions_of(TEAM_OWNER).unwrap(), permissions_of(DEVELOPER).unwrap());
        assert!(developer.difference(owner).is_empty());
        assert!(!owner.contains(Permission::RegistryAll) && !owner.contains(Permission::RolesWrite));
        // Who makes calls does not approve them.
        assert!(
            owner.contains(Permission::ApprovalsDecide) && !developer.contains(Permission::ApprovalsDecide)
        );
        assert_eq!(permissions_of("roles/mine"), None);
    }

    #[test]
    fn members_are_developers_and_owners_are_owners_whatever_else_is_said() {
        assert_eq!(of_member(false, ""), [DEVELOPER]);
        assert_eq!(of_member(false, "roles/viewer"), ["roles/viewer"]);
        assert_eq!(of_member(true, ""), [TEAM_OWNER]);
        assert_eq!(of_member(true, "roles/mine"), [TEAM_OWNER, "roles/mine"]);
    }
}
