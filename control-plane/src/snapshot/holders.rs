//! Who tokens and servers belong to, as edges are told of it: identities, grant ids and ceilings. Pure.
//!
//! It must not know how rights are put together, nor which resources there are.

use std::collections::{BTreeMap, BTreeSet};

use trunkline::edge::v1 as edge;

use crate::rights::{Ownership, grant_id, roles};

/// Somebody who owns something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// Their identity.
    pub uid: String,
    /// Whether they, or who answers for them, are disabled.
    pub is_disabled: bool,
    /// The grants by which edges know them, as pairs of a role and a team.
    pub grants: BTreeSet<(String, String)>,
    /// The teams in which they have a part. `None`: in all.
    pub teams: Option<BTreeSet<String>>,
}

/// What a token may do at most, and whether it may do anything.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Bounds {
    /// `None`: nothing but what it says itself bounds it.
    pub(super) ceiling: Option<edge::Ceiling>,
    /// Whether its owner is disabled or gone.
    pub(super) suspended: bool,
}

/// The owners, roles and teams that resources may belong to.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// By name; `None`: there is nobody of that name.
    owners: BTreeMap<String, Option<Owner>>,
    /// Grant ids of own roles and of teams, by name.
    grants: BTreeMap<String, String>,
    /// What of both changed since `take_changed`, and the revision that did.
    changed: BTreeMap<String, i64>,
}

impl Holders {
    /// Takes in who has a name.
    pub(super) fn put_owner(&mut self, revision: i64, name: &str, owner: Option<Owner>) {
        if self.owners.get(name) != Some(&owner) {
            self.owners.insert(name.to_owned(), owner);
            self.changed.insert(name.to_owned(), revision);
        }
    }

    /// Takes in the identity of a role or a team, or that there is none.
    pub(super) fn put_grant(&mut self, revision: i64, name: &str, uid: Option<&str>) {
        let gid = uid.map(grant_id::of);
        if self.grants.get(name) == gid.as_ref() {
            return;
        }
        match gid {
            Some(gid) => drop(self.grants.insert(name.to_owned(), gid)),
            None => drop(self.grants.remove(name)),
        }
        self.changed.insert(name.to_owned(), revision);
    }

    /// Whether it is known who has a name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.owners.contains_key(name)
    }

    /// The grant id of a role or a team that exists.
    pub(super) fn gid(&self, name: &str) -> Option<String> {
        match roles::built_in(name) {
            Some(role) => Some(grant_id::of(&role.uid())),
            None => self.grants.get(name).cloned(),
        }
    }

    /// As whose a server selects that belongs so: what its owner has left gives it nothing.
    pub(super) fn selecting_as(&self, of: Ownership) -> Ownership {
        let has_part = |owner: &Owner| owner.teams.as_ref().is_none_or(|teams| teams.contains(&of.team));
        let is_inside =
            of.owner.is_empty() || of.team.is_empty() || self.owner(&of.owner).is_some_and(has_part);
        if is_inside { of } else { of.without_team() }
    }

    /// The identity of an owner. Empty: there is none.
    pub(super) fn uid(&self, name: &str) -> String {
        self.owner(name).map(|owner| owner.uid.clone()).unwrap_or_default()
    }

    /// What bounds a token.
    pub(super) fn bounds(&self, of: &Ownership) -> Bounds {
        if !of.owner.is_empty() {
            return self.bounds_of_owner(&of.owner);
        }
        if of.team.is_empty() {
            return Bounds::default();
        }
        // It is the team's own, whatever becomes of its members.
        let team = self.gid(&of.team);
        let suspended = team.is_none();
        let pairs = team.map(|team| edge::GrantPair { role: String::new(), team }).into_iter().collect();
        Bounds { ceiling: Some(edge::Ceiling { owner_uid: String::new(), pairs }), suspended }
    }

    fn bounds_of_owner(&self, name: &str) -> Bounds {
        let Some(owner) = self.owner(name) else {
            return Bounds { ceiling: Some(edge::Ceiling::default()), suspended: true };
        };
        let place = |team: &str| if team.is_empty() { Some(String::new()) } else { self.gid(team) };
        let pairs = owner
            .grants
            .iter()
            .filter_map(|(role, team)| Some(edge::GrantPair { role: self.gid(role)?, team: place(team)? }));
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_by(|one, other| (&one.role, &one.team).cmp(&(&other.role, &other.team)));
        let ceiling = edge::Ceiling { owner_uid: owner.uid.clone(), pairs };
        Bounds { ceiling: Some(ceiling), suspended: owner.is_disabled }
    }

    fn owner(&self, name: &str) -> Option<&Owner> {
        self.owners.get(name)?.as_ref()
    }

    /// What changed since this was last called.
    pub(super) fn take_changed(&mut self) -> BTreeMap<String, i64> {
        std::mem::take(&mut self.changed)
    }

    /// The newest revision in `changed` that changed who a resource belongs to.
    pub(super) fn change_of(&self, of: &Ownership, changed: &BTreeMap<String, i64>) -> Option<i64> {
        changed.get(&of.owner).max(changed.get(&of.team)).copied()
    }

    /// The same, or what its owner may do.
    pub(super) fn change_of_bounds(&self, of: &Ownership, changed: &BTreeMap<String, i64>) -> Option<i64> {
        if changed.is_empty() {
            return None;
        }
        let grants = self.owner(&of.owner).into_iter().flat_map(|owner| &owner.grants);
        let through = grants.flat_map(|(role, team)| [changed.get(role), changed.get(team)]).flatten();
        through.copied().max().max(self.change_of(of, changed))
    }
}

#[cfg(test)]
mod tests {
    use trunkline::common::v1::Visibility;

    use super::*;

    fn of(owner: &str, team: &str) -> Ownership {
        Ownership { owner: owner.to_owned(), team: team.to_owned(), visibility: Visibility::Private }
    }

    fn ann(grants: &[(&str, &str)]) -> Owner {
        let grants = grants.iter().map(|(role, team)| ((*role).to_owned(), (*team).to_owned()));
        Owner { uid: "u-ann".to_owned(), is_disabled: false, grants: grants.collect(), teams: None }
    }

    fn pairs(bounds: &Bounds) -> Vec<(String, String)> {
        let ceiling = bounds.ceiling.clone().unwrap_or_default();
        ceiling.pairs.into_iter().map(|pair| (pair.role, pair.team)).collect()
    }

    #[test]
    fn what_nobody_owns_has_no_bounds_and_what_is_unknown_may_do_nothing() {
        let mut holders = Holders::default();
        assert_eq!(holders.bounds(&of("", "")), Bounds::default());
        for stranger in [of("users/ann", ""), of("users/ann", "teams/a"), of("", "teams/a")] {
            let bounds = holders.bounds(&stranger);
            assert!(bounds.suspended && pairs(&bounds).is_empty(), "{stranger:?}");
            assert_eq!(bounds.ceiling.unwrap().owner_uid, "");
        }
        holders.put_owner(1, "users/ann", None);
        assert!(holders.bounds(&of("users/ann", "")).suspended);
    }

    #[test]
    fn an_owner_bounds_by_all_grants_in_order_and_a_team_by_itself() {
        let mut holders = Holders::default();
        holders.put_grant(1, "teams/a", Some("u-a"));
        holders.put_grant(1, "roles/mine", Some("u-mine"));
        let held = [("roles/mine", "teams/a"), ("roles/developer", ""), ("roles/developer", "teams/gone")];
        holders.put_owner(1, "users/ann", Some(ann(&held)));
        let bounds = holders.bounds(&of("users/ann", "teams/a"));
        let mut expected = vec![
            (grant_id::of("u-mine"), grant_id::of("u-a")),
            (grant_id::of("built-in:developer"), String::new()),
        ];
        expected.sort();
        assert_eq!(pairs(&bounds), expected);
        assert_eq!((bounds.ceiling.unwrap().owner_uid.as_str(), bounds.suspended), ("u-ann", false));
        let of_team = holders.bounds(&of("", "teams/a"));
        assert_eq!(pairs(&of_team), [(String::new(), grant_id::of("u-a"))]);
        assert!(!of_team.suspended);
        holders.put_owner(2, "users/ann", Some(Owner { is_disabled: true, ..ann(&held) }));
        assert!(holders.bounds(&of("users/ann", "")).suspended);
    }

    #[test]
    fn a_server_of_who_left_its_team_selects_as_a_strangers() {
        let mut holders = Holders::default();
        let shared = Ownership { visibility: Visibility::Team, ..of("users/ann", "teams/a") };
        let stranger = of("users/ann", "");
        assert_eq!(holders.selecting_as(shared.clone()), stranger, "there is nobody of that name");
        for (teams, expected) in [
            (None, &shared),
            (Some(vec!["teams/a".to_owned()]), &shared),
            (Some(vec!["teams/b".to_owned()]), &stranger),
        ] {
            let teams = teams.map(|teams| teams.into_iter().collect());
            holders.put_owner(1, "users/ann", Some(Owner { teams, ..ann(&[]) }));
            assert_eq!(holders.selecting_as(shared.clone()), *expected);
        }
        assert_eq!(holders.selecting_as(of("", "teams/a")), of("", "teams/a"));
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let mut holders = Holders::default();
        holders.put_grant(1, "teams/a", Some("u-a"));
        holders.put_owner(2, "users/ann", Some(ann(&[("roles/developer", "teams/a")])));
        let changed = holders.take_changed();
        assert_eq!(changed, [("teams/a".to_owned(), 1), ("users/ann".to_owned(), 2)].into());
        holders.put_grant(3, "teams/a", Some("u-a"));
        holders.put_owner(3, "users/ann", Some(ann(&[("roles/developer", "teams/a")])));
        assert_eq!(holders.take_changed(), BTreeMap::new());
        holders.put_grant(4, "teams/a", None);
        let changed = holders.take_changed();
        assert_eq!(holders.change_of(&of("users/ann", ""), &changed), None);
        assert_eq!(holders.change_of_bounds(&of("users/ann", ""), &changed), Some(4));
        assert_eq!(holders.change_of_bounds(&of("", "teams/a"), &changed), Some(4));
        assert_eq!(holders.change_of_bounds(&of("users/bob", "teams/b"), &changed), None);
    }
}
