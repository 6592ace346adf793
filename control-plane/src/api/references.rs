//! Who may have an upstream refer to which secret. A reference sends a secret of the operator to where the upstream is, so that
//! whoever changes either must be allowed to write the reference.

use tonic::Code;
use trunkline::common::v1::Permission;
use trunkline::registry::v1::{Credential, SecretReference};

use super::Registry;
use super::write::Write;
use crate::domain::{KindRules, Violations, names, secret_reference};
use crate::error::Error;
use crate::rights::{Ownership, Rights, permission_set};

const WRITE: Permission = Permission::UpstreamsWrite;

impl Write<'_> {
    /// Checks that the stores are open that a credential refers to, and that the caller may refer to what is new in it. Everything is
    /// new of an upstream that is elsewhere (`moved`), or becomes somebody else's.
    pub(super) fn check_references<K: KindRules>(
        &self,
        message: &K,
        before: Option<&K>,
        moved: bool,
        prefix: &str,
    ) -> Result<(), Error> {
        let Some(credential) = message.credential() else { return Ok(()) };
        let owned = message.ownership();
        let is_same = |before: &&K| {
            let was = before.ownership();
            !moved && was.owner == owned.owner && was.team == owned.team
        };
        let known = before.filter(is_same).and_then(KindRules::credential);
        let allowed =
            self.registry.check_references(&self.call.caller, credential, known, &owned, message.name());
        allowed.map_err(|violations| refused(violations, prefix, message.name()))
    }
}

/// What is wrong with references.
pub(super) enum Wrong {
    /// They lead nowhere.
    Closed(Violations),
    /// They lead to what is not the caller's.
    Foreign(Violations),
}

/// The error of references that are wrong.
pub(super) fn refused(wrong: Wrong, prefix: &str, name: &str) -> Error {
    let under = |violations: Violations| {
        let mut all = Violations::default();
        all.extend_under(prefix, violations);
        all
    };
    match wrong {
        Wrong::Closed(violations) => Error::invalid(under(violations)),
        Wrong::Foreign(violations) => {
            Error::broken(Code::PermissionDenied, "PERMISSION_DENIED", under(violations))
                .with("permission", permission_set::name(Permission::RegistryAll))
                .with("name", name)
        }
    }
}

impl Registry {
    /// Checks the references of a credential that are not in `known`, of an upstream that belongs as `owned` says.
    pub(super) fn check_references(
        &self,
        caller: &Rights,
        credential: &Credential,
        known: Option<&Credential>,
        owned: &Ownership,
        name: &str,
    ) -> Result<(), Wrong> {
        let known = known.map(secret_reference::references).unwrap_or_default();
        let new = secret_reference::references(credential).into_iter().filter(|new| !known.contains(new));
        let (mut closed, mut foreign) = (Violations::default(), Violations::default());
        let stores = self.inner.sync.references().stores();
        for (field, reference) in new {
            match stores.refusal(reference) {
                Some(why) => closed.add(field, why),
                None if self.may_refer(caller, reference, owned) => {}
                None => foreign.add(field, self.advice(reference, owned, name)),
            }
        }
        match (closed.is_empty(), foreign.is_empty()) {
            // Whoever may refer to nothing learns nothing of what is open.
            (_, false) => Err(Wrong::Foreign(foreign)),
            (false, true) => Err(Wrong::Closed(closed)),
            (true, true) => Ok(()),
        }
    }

    fn may_refer(&self, caller: &Rights, reference: &SecretReference, owned: &Ownership) -> bool {
        if caller.holds_for_all(WRITE) {
            return true;
        }
        let is_theirs = !owned.team.is_empty() && caller.in_team(&owned.team).contains(WRITE);
        is_theirs && self.inner.sync.references().stores().is_of_team(reference, names::id(&owned.team))
    }

    fn advice(&self, reference: &SecretReference, owned: &Ownership, name: &str) -> String {
        let everywhere = format!(
            "takes {} and {}",
            permission_set::name(WRITE),
            permission_set::name(Permission::RegistryAll)
        );
        match owned.team.as_str() {
            "" => {
                format!("leads to a secret that is not a team's, or {name} is of no team: that {everywhere}")
            }
            team => {
                let theirs = self.inner.sync.references().stores().of_team(reference, names::id(team));
                format!(
                    "leads to what does not begin with {theirs}, as the secrets of {team} do for who writes its upstreams; \
                     anything else {everywhere}"
                )
            }
        }
    }
}
