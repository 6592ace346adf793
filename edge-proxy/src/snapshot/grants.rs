//! What roles and teams grant, what was withdrawn, and the scopes of people. People are in no snapshot: their bearers name
//! the grants that they have.
//!
//! It must not know bearers, nor who presented one.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{HeldRights, Rights, Scope, Scopes, TeamRights};
use crate::collections::OnceMap;

/// A role's grant, in a team's; in that of no team, it is everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantPair {
    /// The id of the role. Empty in a ceiling: no role is asked for.
    pub role: Box<str>,
    /// The id of the team. Empty: everywhere.
    pub team: Box<str>,
}

/// The grants that a bearer names.
#[derive(Debug, PartialEq, Eq)]
pub struct BearerGrants {
    uid: Box<str>,
    epoch: i64,
    pairs: Box<[GrantPair]>,
    hash: u64,
}

/// What a role grants at edges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoleRights {
    /// Whether who has it may call servers.
    pub may_call: bool,
    /// Whether that goes for every server, where they have it everywhere.
    pub every_server: bool,
}

/// What somebody has lost, though bearers of theirs name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// Bearers of a lower epoch are not valid.
    pub epoch: i64,
    /// Bearers of a lower epoch than this have lost this.
    pub pairs: Vec<(i64, GrantPair)>,
}

/// What roles and teams grant, what was withdrawn, and the scopes of those who came since.
#[derive(Debug, Default)]
pub struct Grants {
    roles: HashMap<Box<str>, RoleRights>,
    teams: HashMap<Box<str>, Arc<TeamRights>>,
    withdrawn: HashMap<Box<str>, Withdrawn>,
    owners: HashSet<Box<str>>,
    scopes: Arc<Scopes>,
    people: OnceMap<Arc<Person>>,
}

/// The scope of whoever bears these grants.
#[derive(Debug)]
struct Person {
    grants: Arc<BearerGrants>,
    /// `None`: the bearer is not valid any more.
    scope: Option<Arc<Scope>>,
    /// True if a request has used it.
    used: AtomicBool,
}

/// People whose scopes are found fast.
const PEOPLE: usize = 4_096;
/// People whose scopes are taken over when what is granted changes; those of others are found when they come again.
const MAX_TAKEN_OVER: usize = 20_000;

impl BearerGrants {
    /// Creates what a bearer of this epoch of the principal with this uid names.
    pub fn new(uid: Box<str>, epoch: i64, mut pairs: Vec<GrantPair>) -> BearerGrants {
        pairs.sort_unstable();
        pairs.dedup();
        let mut hasher = DefaultHasher::new();
        (&uid, epoch, &pairs).hash(&mut hasher);
        BearerGrants { uid, epoch, pairs: pairs.into(), hash: hasher.finish() }
    }
}

impl RoleRights {
    fn or(self, other: RoleRights) -> RoleRights {
        RoleRights {
            may_call: self.may_call || other.may_call,
            every_server: self.every_server || other.every_server,
        }
    }
}

impl Withdrawn {
    /// Takes away what `other` does as well.
    pub fn add(&mut self, other: Withdrawn) {
        self.epoch = self.epoch.max(other.epoch);
        self.pairs.extend(other.pairs);
    }

    /// Returns whether a bearer of this epoch has lost `pair`.
    fn has(&self, epoch: i64, pair: &GrantPair) -> bool {
        let is_it =
            |lost: &GrantPair| lost.team == pair.team && (lost.role.is_empty() || lost.role == pair.role);
        self.pairs.iter().any(|(below, lost)| epoch < *below && is_it(lost))
    }
}

impl Grants {
    /// Creates what these grant, and what was withdrawn. `owners` are the uids of those whom servers name as their owners.
    pub fn new(
        roles: HashMap<Box<str>, RoleRights>,
        teams: HashMap<Box<str>, Arc<TeamRights>>,
        withdrawn: HashMap<Box<str>, Withdrawn>,
        owners: HashSet<Box<str>>,
        scopes: Arc<Scopes>,
    ) -> Grants {
        Grants { roles, teams, withdrawn, owners, scopes, people: OnceMap::for_about(PEOPLE) }
    }

    /// What is granted here, without what was withdrawn there.
    pub fn withdrawing_as(&self, newer: &Grants) -> Grants {
        let withdrawn = newer.withdrawn.clone();
        let (roles, teams, owners) = (self.roles.clone(), self.teams.clone(), self.owners.clone());
        let grants = Grants::new(roles, teams, withdrawn, owners, Arc::clone(&self.scopes));
        grants.take_over(self);
        grants
    }

    /// Finds the scopes of the people that used `earlier`, so that their next requests do not.
    pub fn take_over(&self, earlier: &Grants) {
        let used = earlier.people.iter().filter(|person| person.used.load(Ordering::Relaxed));
        for person in used.take(MAX_TAKEN_OVER) {
            let _found = self.person(&person.grants);
        }
    }

    /// Returns the scope of whoever bears `grants`; `None` if the bearer is not valid any more.
    pub fn scope(&self, grants: &Arc<BearerGrants>) -> Option<&Arc<Scope>> {
        let person = self.person(grants);
        // Read first: a store by every call would move the line between the cores.
        if !person.used.load(Ordering::Relaxed) {
            person.used.store(true, Ordering::Relaxed);
        }
        person.scope.as_ref()
    }

    fn person(&self, grants: &Arc<BearerGrants>) -> &Person {
        let mut key = grants.hash;
        loop {
            let known = self.people.get(key).unwrap_or_else(|| {
                // Before it is set, because others who set one wait as long.
                let found = Arc::new(self.resolve(grants));
                self.people.get_or_set(key, || Arc::clone(&found))
            });
            if known.grants == *grants {
                return known;
            }
            // Others whose hash is the same.
            key = key.wrapping_add(1);
        }
    }

    #[cold]
    fn resolve(&self, grants: &Arc<BearerGrants>) -> Person {
        let withdrawn = self.withdrawn.get(&grants.uid);
        let is_valid = withdrawn.is_none_or(|withdrawn| grants.epoch >= withdrawn.epoch);
        let scope = is_valid.then(|| {
            let is_left = |pair: &&GrantPair| withdrawn.is_none_or(|lost| !lost.has(grants.epoch, pair));
            let pairs: Vec<&GrantPair> = grants.pairs.iter().filter(is_left).collect();
            self.scopes.of(vec![Rights::Held(self.held(&grants.uid, &pairs))])
        });
        Person { grants: Arc::clone(grants), scope, used: AtomicBool::new(false) }
    }

    /// Returns what the principal with this uid holds by these pairs. A role or team that is not here grants nothing.
    pub fn held(&self, uid: &str, pairs: &[&GrantPair]) -> HeldRights {
        let known = |pair: &GrantPair| pair.team.is_empty() || self.teams.contains_key(&pair.team);
        let of_known: Vec<&GrantPair> = pairs.iter().copied().filter(|pair| known(pair)).collect();
        let held: Vec<_> = of_known.iter().filter_map(|pair| Some((self.role(pair)?, *pair))).collect();
        let everywhere = held.iter().filter(|(_, pair)| pair.team.is_empty());
        let everywhere = everywhere.fold(RoleRights::default(), |all, (role, _)| all.or(*role));
        let teams = of_known.iter().filter_map(|pair| self.teams.get(&pair.team));
        let mut member_of: Vec<_> = teams.map(|team| team.id.clone()).collect();
        member_of.sort_unstable();
        member_of.dedup();
        let calling = held.iter().filter(|(role, _)| role.may_call);
        let mut teams: Vec<_> = calling.filter_map(|(_, pair)| self.teams.get(&pair.team).cloned()).collect();
        teams.sort_unstable();
        teams.dedup();
        let may_call = held.iter().any(|(role, _)| role.may_call);
        let owns = may_call && self.owners.contains(uid);
        HeldRights {
            owner: if owns { uid.into() } else { Box::default() },
            may_call,
            every_server: everywhere.may_call && everywhere.every_server,
            teams,
            member_of,
        }
    }

    fn role(&self, pair: &GrantPair) -> Option<RoleRights> {
        match (&*pair.role, &*pair.team) {
            ("", "") => None,
            ("", _) => Some(RoleRights { may_call: true, every_server: false }),
            (role, _) => self.roles.get(role).copied(),
        }
    }
}
