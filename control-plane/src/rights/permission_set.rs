//! Sets of permissions, and their names as the contract declares them.

use std::sync::LazyLock;

use schema::contract::pool;
use trunkline::common::v1::Permission;

/// The option that names a permission.
const NAME: &str = "trunkline.common.v1.permission_name";

/// A set of permissions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermissionSet(u64);

impl PermissionSet {
    /// All of them.
    pub fn all() -> Self {
        known().iter().map(|(permission, _)| *permission).collect()
    }

    /// Tells whether a permission is in it. `Unspecified` never is.
    pub fn contains(self, permission: Permission) -> bool {
        self.0 & bit(permission) != 0
    }

    /// What is in one of both.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in it and not in `other`.
    pub fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Tells whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The permissions, in the order of the contract.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        known().iter().map(|(permission, _)| *permission).filter(move |permission| self.contains(*permission))
    }

    /// The names of the permissions, in the order of the contract.
    pub fn names(self) -> Vec<String> {
        self.iter().map(|permission| name(permission).to_owned()).collect()
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |set, permission| set | bit(permission)))
    }
}

/// The name of a permission, such as `servers.write`; empty for `Unspecified`.
pub fn name(permission: Permission) -> &'static str {
    known().iter().find(|(known, _)| *known == permission).map_or("", |(_, name)| name)
}

/// Finds a permission by its name.
pub fn parse(name: &str) -> Option<Permission> {
    known().iter().find(|(_, known)| known == name).map(|(permission, _)| *permission)
}

fn bit(permission: Permission) -> u64 {
    match permission {
        Permission::Unspecified => 0,
        other => 1 << (other as u32),
    }
}

/// Every permission and its name, in the order of the contract.
fn known() -> &'static [(Permission, String)] {
    static KNOWN: LazyLock<Vec<(Permission, String)>> = LazyLock::new(|| {
        let option = pool().get_extension_by_name(NAME);
        let values = pool().get_enum_by_name("trunkline.common.v1.Permission");
        let values = values.iter().flat_map(|values| values.values().collect::<Vec<_>>());
        let named = values.filter_map(|value| {
            let name = value.options().get_extension(option.as_ref()?).as_str()?.to_owned();
            Some((Permission::try_from(value.number()).ok()?, name)).filter(|(_, name)| !name.is_empty())
        });
        named.collect()
    });
    &KNOWN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permission_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = known().iter().map(|(_, name)| name).collect();
        assert_eq!(names.len(), 21);
        for (permission, name) in known() {
            assert_eq!(parse(name), Some(*permission));
            assert_eq!(PermissionSet::from_iter([*permission]).names(), std::slice::from_ref(name));
        }
        assert_eq!(PermissionSet::all().names().len(), 21);
    }

    #[test]
    fn nobody_holds_what_is_not_said() {
        assert!(!PermissionSet::all().contains(Permission::Unspecified));
        assert!(PermissionSet::from_iter([Permission::Unspecified]).is_empty());
    }
}
