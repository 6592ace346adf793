//! Grants and withdrawals, read from what the control plane says of them.
//!
//! Nothing is refused here, as the last good version may grant more: what cannot be read grants nothing, and is reported.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use trunkline::edge::v1 as wire;
use trunkline::edge::v1::StreamType;
use trunkline::edge::v1::grant::Kind;

use super::super::{GrantPair, Grants, Permissions, RoleRights, Scopes, Server, TeamRights, Withdrawn};
use super::accepted::AcceptedResources;
use super::scopes::{servers, set};
use super::unusable::Unusable;
use super::{ByName, Changed, decode};

/// What is granted at present.
#[derive(Debug, Default)]
pub(super) struct GrantCache {
    roles: HashMap<Box<str>, RoleRights>,
    teams: HashMap<Box<str>, Arc<TeamRights>>,
    withdrawn: HashMap<Box<str>, Withdrawn>,
    owners: HashSet<Box<str>>,
    grants: Arc<Grants>,
}

impl GrantCache {
    pub(super) fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    /// Builds what changed. Returns whether the rights that owners of tokens hold may have.
    pub(super) fn update<'a>(
        &mut self,
        accepted: &AcceptedResources,
        changed: &Changed,
        servers: Option<impl Iterator<Item = &'a Arc<Server>>>,
        scopes: &Arc<Scopes>,
        unusable: &mut Unusable,
    ) -> bool {
        let owners = servers.map(owners).filter(|owners| *owners != self.owners);
        let is_other = changed.grants || owners.is_some();
        if !is_other && !changed.withdrawals {
            return false;
        }
        if changed.grants {
            self.read_grants(accepted, unusable);
        }
        if changed.withdrawals {
            self.withdrawn = withdrawn(accepted);
        }
        self.owners = owners.unwrap_or_else(|| std::mem::take(&mut self.owners));
        let grants = Grants::new(
            self.roles.clone(),
            self.teams.clone(),
            self.withdrawn.clone(),
            self.owners.clone(),
            Arc::clone(scopes),
        );
        grants.take_over(&self.grants);
        self.grants = Arc::new(grants);
        is_other
    }

    fn read_grants(&mut self, accepted: &AcceptedResources, unusable: &mut Unusable) {
        let (mut roles, mut teams) = (HashMap::new(), HashMap::new());
        unusable.forget(StreamType::Grant);
        for (name, resource) in accepted.of(StreamType::Grant) {
            let wire::Grant { gid, kind, .. } = decode(resource);
            let mut problems = Vec::new();
            let is_first = match kind {
                Some(Kind::Role(role)) if !gid.is_empty() => put(&mut roles, gid, role_rights(role)),
                Some(Kind::Team(team)) if !gid.is_empty() => {
                    let rights = team_rights([name, &gid], &team, &mut problems);
                    put(&mut teams, gid, Arc::new(rights))
                }
                _ => {
                    problems.push("it grants nothing that is known here".to_owned());
                    true
                }
            };
            if !is_first {
                problems.push("its gid is that of another, so neither grants anything".to_owned());
            }
            unusable.note(StreamType::Grant, name, problems);
        }
        self.roles = roles.into_iter().filter_map(|(gid, role)| Some((gid, role?))).collect();
        self.teams = teams.into_iter().filter_map(|(gid, team)| Some((gid, team?))).collect();
    }
}

/// Keeps `value` under its gid; where that has another already, neither of them.
fn put<T>(kept: &mut ByName<Option<T>>, gid: String, value: T) -> bool {
    match kept.entry(gid.into()) {
        Entry::Vacant(vacant) => drop(vacant.insert(Some(value))),
        Entry::Occupied(mut occupied) => {
            occupied.insert(None);
            return false;
        }
    }
    true
}

fn role_rights(role: wire::RoleGrant) -> RoleRights {
    RoleRights { may_call: role.may_call, every_server: role.every_server }
}

fn team_rights([name, gid]: [&str; 2], team: &wire::TeamGrant, problems: &mut Vec<String>) -> TeamRights {
    let permissions = Permissions {
        servers: servers(&team.servers, problems),
        tools: set(&team.tools),
        resources: set(&team.resources),
        prompts: set(&team.prompts),
    };
    TeamRights { gid: gid.into(), id: name.trim_start_matches("teams/").into(), permissions }
}

fn withdrawn(accepted: &AcceptedResources) -> HashMap<Box<str>, Withdrawn> {
    let mut all: HashMap<Box<str>, Withdrawn> = HashMap::new();
    for (name, resource) in accepted.of(StreamType::Withdrawal) {
        let wire::Withdrawal { uid, epoch, pairs, .. } = decode(resource);
        // The name says whom it is about as well.
        let uid = if uid.is_empty() { name.trim_start_matches("withdrawals/").to_owned() } else { uid };
        let pairs = pairs.into_iter().map(|lost| (lost.epoch, pair(lost.pair.unwrap_or_default())));
        all.entry(uid.into()).or_default().add(Withdrawn { epoch, pairs: pairs.collect() });
    }
    all
}

/// Reads a pair of grants.
pub(super) fn pair(pair: wire::GrantPair) -> GrantPair {
    GrantPair { role: pair.role.into(), team: pair.team.into() }
}

fn owners<'a>(servers: impl Iterator<Item = &'a Arc<Server>>) -> HashSet<Box<str>> {
    let owners = servers.map(|server| &server.owner_uid);
    owners.filter(|owner| !owner.is_empty()).cloned().collect()
}
