//! Roles: what their author may write.

use trunkline::common::v1::Visibility;
use trunkline::identity::v1::Role;

use super::{KindRules, Surroundings, Violations, meta};
use crate::rights::Ownership;
use crate::rights::permission_set;

const MAX_TITLE: usize = 128;
const MAX_DESCRIPTION: usize = 1_024;
const MAX_PERMISSIONS: usize = 64;

impl KindRules for Role {
    fn validate(&self, violations: &mut Violations) {
        meta::validate(self.meta.as_ref(), violations);
        violations.at_most("title", &self.title, MAX_TITLE);
        violations.at_most("description", &self.description, MAX_DESCRIPTION);
        let count = self.permissions.len();
        let text = format!("has {count} entries; the maximum is {MAX_PERMISSIONS}");
        violations.require(count <= MAX_PERMISSIONS, "permissions", text);
        for (index, name) in self.permissions.iter().enumerate() {
            let text = format!("{name:?} is no permission; `ListPermissions` has all of them");
            violations.require(permission_set::parse(name).is_some(), format!("permissions[{index}]"), text);
        }
    }
    // Everybody may see what it gives, and nobody owns it.
    const HAS_OWNER: bool = false;
    fn ownership(&self) -> Ownership {
        Ownership { visibility: Visibility::Public, ..Ownership::default() }
    }
    fn search(&self) -> Vec<&str> {
        vec![&self.title, &self.description]
    }
    const COMPUTED: &'static [&'static str] = &[];
    const SEES_CATALOGUE: bool = false;
    fn evaluate(&mut self, _around: &Surroundings<'_>) {
        // Nobody made what is built in.
        if let Some(meta) = self.meta.as_mut().filter(|_| self.built_in) {
            (meta.create_time, meta.update_time) = (None, None);
        }
    }
}
