//! Rows of the registry to the snapshot of edges, kept current change by change. Pure.
//!
//! It must not know where rows come from, nor who may see what is secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use delta::{ByType, Items};
use prost::Message;
use trunkline::common::v1::Visibility;
use trunkline::edge::v1 as edge;
use trunkline::edge::v1::{StreamType, TrustBundle};
use trunkline::identity::v1::{Role, Team, Token};
use trunkline::policy::v1::Rule;
use trunkline::registry::v1::{Credential, Prompt, Resource, Server, Tool, Upstream};

use super::content::{self, Snapshot};
use super::holders::{Bounds, Holders, Owner};
use super::{edge_messages, grants, rules};
use crate::domain::members::{self, Exposed, Target, evaluate_as, lists};
use crate::domain::{Catalogue, Kind, KindRules, Steps, names};
use crate::rights::permission_set::PermissionSet;
use crate::rights::roles;
use crate::store::withdrawals::WithdrawalRow;
use crate::store::{Row, StoreError};

/// The steps in which servers are compared with what upstreams have for one snapshot, unless one takes more; some 0.1 s.
const MAX_STEPS: usize = 100_000_000;
/// The name of the one trust bundle.
const TRUST: &str = "default";

/// The registry as edges see it, so far.
#[derive(Debug, Default)]
pub struct Projector {
    items: ByType<StreamType, Arc<Items>>,
    catalogue: Catalogue,
    servers: BTreeMap<String, Server>,
    /// Upstreams of which something changed since servers were last resolved, and the revision that did.
    touched: BTreeMap<String, i64>,
    /// Servers and tokens that changed themselves, and the revision that did.
    stale: BTreeMap<String, i64>,
    /// Tokens that belong to somebody.
    owned_tokens: BTreeMap<String, Token>,
    /// Rules of teams that have some, by the name of the team.
    team_rules: BTreeMap<String, Vec<Rule>>,
    /// Own roles, by name.
    roles: BTreeMap<String, PermissionSet>,
    roles_in_use: BTreeSet<String>,
    holders: Holders,
    withdrawals: BTreeMap<String, BTreeSet<WithdrawalRow>>,
    /// The revision that what is taken in is of.
    revision: i64,
    /// What is too large to be sent to edges, each with the reason.
    too_large: BTreeMap<(StreamType, String), String>,
    /// Those of it that became too large since they were last asked for.
    grown: BTreeSet<(StreamType, String)>,
    /// How many messages were made.
    projected: u64,
}

/// A resource that has become too large to be sent to edges.
#[derive(Debug, PartialEq)]
pub struct TooLarge {
    /// Its type.
    pub kind: StreamType,
    /// Its name.
    pub name: String,
    /// The reason, with both sizes.
    pub reason: String,
}

impl Projector {
    /// A projector that knows the whole catalogue already, and the tools that edges were sent, for a part of what there is else.
    pub(super) fn over(catalogue: Catalogue, sent: &Snapshot) -> Self {
        let mut projector = Self { catalogue, ..Self::default() };
        projector.items[StreamType::Tool] = sent.items[StreamType::Tool].clone();
        projector
    }

    /// Takes in what its servers expose of resources, as far as decisions look at it: their URIs.
    pub(super) fn put_exposed_uris(&mut self) {
        let exposed =
            self.servers.values().flat_map(|server| members::evaluate(server, &self.catalogue).entries);
        let uris = exposed.filter(|exposed| exposed.kind == Kind::Resource).map(|exposed| {
            let (name, own) = (exposed.entry.name.clone(), exposed.entry.own.clone());
            match exposed.entry.template {
                true => edge::Resource { name, uri_template: own, ..edge::Resource::default() },
                false => edge::Resource { name, uri: own, ..edge::Resource::default() },
            }
        });
        for resource in uris.collect::<Vec<_>>() {
            self.set(StreamType::Resource, &resource.name.clone(), Some(&resource));
        }
    }

    /// Takes a row in, or its end.
    pub fn apply(&mut self, row: &Row) -> Result<(), StoreError> {
        row.apply_to(&mut self.catalogue)?;
        self.revision = row.revision;
        if let Some(upstream) = names::upstream_id(&row.name) {
            let revision = self.touched.entry(upstream.to_owned()).or_default();
            *revision = row.revision.max(*revision);
        }
        match row.kind {
            Kind::Server => self.apply_server(row),
            Kind::Token => self.apply_token(row),
            Kind::Team => self.apply_team(row),
            Kind::Role => self.apply_role(row),
            _ if row.deleted => {
                self.forget(row);
                Ok(())
            }
            Kind::Upstream => {
                let upstream: Upstream = row.message()?;
                if upstream.disabled || upstream.credential.is_none() {
                    self.remove(StreamType::Secret, &row.name);
                }
                let shown = (!upstream.disabled).then(|| edge_messages::upstream(&upstream));
                self.set(StreamType::Upstream, &row.name, shown.as_ref());
                Ok(())
            }
            Kind::Tool => {
                let tool: Tool = row.message()?;
                let shown = (!tool.disabled && tool.stale_time.is_none()).then(|| edge_messages::tool(&tool));
                self.set(StreamType::Tool, &row.name, shown.as_ref());
                Ok(())
            }
            Kind::Resource => {
                let resource: Resource = row.message()?;
                let shown = (!resource.disabled && resource.stale_time.is_none())
                    .then(|| edge_messages::resource(&resource));
                self.set(StreamType::Resource, &row.name, shown.as_ref());
                Ok(())
            }
            Kind::Prompt => {
                let prompt: Prompt = row.message()?;
                let shown =
                    (!prompt.disabled && prompt.stale_time.is_none()).then(|| edge_messages::prompt(&prompt));
                self.set(StreamType::Prompt, &row.name, shown.as_ref());
                Ok(())
            }
        }
    }

    /// Takes the opened credential of an upstream in, which changed at a revision.
    pub fn put_secret(&mut self, revision: i64, upstream: &str, credential: &Credential) {
        self.revision = revision;
        self.set(StreamType::Secret, upstream, Some(&edge_messages::secret(upstream, credential)));
    }

    /// Takes in an upstream whose credential refers to secrets that are elsewhere: with these, and what tells them from others. With
    /// none, edges do not call it.
    pub fn put_referred(&mut self, upstream: &Upstream, filled: Option<(Credential, String)>) {
        let name = &upstream.name;
        let mut shown = edge_messages::upstream(upstream);
        let secret = filled.map(|(credential, tag)| {
            shown.credential_version = format!("{}.{tag}", shown.credential_version);
            edge_messages::secret(name, &credential)
        });
        self.set(StreamType::Upstream, name, Some(&shown));
        self.set(StreamType::Secret, name, secret.as_ref());
    }

    /// Takes in what bearers and handles are believed by, at a revision.
    pub fn put_trust(&mut self, revision: i64, trust: &TrustBundle) {
        self.revision = revision;
        self.set(
            StreamType::TrustBundle,
            TRUST,
            Some(&TrustBundle { name: TRUST.to_owned(), ..trust.clone() }),
        );
    }

    /// Takes in which edges reach each other.
    pub fn put_siblings(&mut self, siblings: &Arc<Items>) {
        self.items[StreamType::Sibling] = siblings.clone();
    }

    /// The owners of whom it is not known who they are, and who else belongs among them of `changed`.
    pub fn wanted_owners(&self, changed: &[String]) -> BTreeSet<String> {
        let tokens = self.owned_tokens.values().map(KindRules::ownership);
        let servers = self.servers.values().map(KindRules::ownership);
        let owners = tokens.chain(servers).map(|of| of.owner).filter(|owner| !owner.is_empty());
        let unknown = owners.filter(|owner| !self.holders.knows(owner));
        unknown.chain(changed.iter().filter(|name| self.holders.knows(name)).cloned()).collect()
    }

    /// Takes in who has a name, as of a revision.
    pub fn put_owner(&mut self, revision: i64, name: &str, owner: Option<Owner>) {
        self.holders.put_owner(revision, name, owner);
    }

    /// Takes in which roles anybody has, as of a revision.
    pub fn put_roles_in_use(&mut self, revision: i64, in_use: BTreeSet<String>) {
        self.revision = revision;
        let before = std::mem::replace(&mut self.roles_in_use, in_use);
        let differs: Vec<_> = before.symmetric_difference(&self.roles_in_use).cloned().collect();
        for name in differs {
            self.set_role(&name);
        }
    }

    /// Takes in what was lost, as of a revision: all of it, or what is new.
    pub fn put_withdrawals(&mut self, revision: i64, lost: Vec<WithdrawalRow>, all: bool) {
        self.revision = revision;
        let mut changed: BTreeSet<_> = lost.iter().map(|row| row.uid.clone()).collect();
        if all {
            changed.extend(std::mem::take(&mut self.withdrawals).into_keys());
        }
        for row in lost {
            self.withdrawals.entry(row.uid.clone()).or_default().insert(row);
        }
        for uid in changed {
            let shown = self.withdrawals.get(&uid).map(|lost| grants::withdrawal(&uid, lost));
            self.set(StreamType::Withdrawal, &grants::withdrawal_name(&uid), shown.as_ref());
        }
    }

    /// How much is known to be lost.
    pub fn withdrawal_count(&self) -> usize {
        self.withdrawals.values().map(BTreeSet::len).sum()
    }

    /// How many messages were made for edges, whether or not they differed from those before.
    pub fn projected(&self) -> u64 {
        self.projected
    }

    /// The snapshot as of now. Only servers and tokens that something changed for are resolved again. Servers that take long are left
    /// for the next one, so that nobody waits for them; until then it is of the revision before they changed.
    pub fn snapshot(&mut self, revision: i64) -> Snapshot {
        let stale = std::mem::take(&mut self.stale);
        let held = self.holders.take_changed();
        self.resolve_tokens(&stale, &held);
        self.resolve_servers(&stale, &held);
        let behind = self.stale.values().min().map_or(revision, |oldest| oldest - 1);
        Snapshot { revision: revision.min(behind), items: self.items.clone() }
    }

    /// Whether servers are left for the next snapshot.
    pub fn is_behind(&self) -> bool {
        !self.stale.is_empty()
    }

    fn resolve_tokens(&mut self, stale: &BTreeMap<String, i64>, held: &BTreeMap<String, i64>) {
        let changed = |token: &Token| {
            let own = stale.get(&token.name).copied();
            own.max(self.holders.change_of_bounds(&token.ownership(), held))
        };
        let affected = self.owned_tokens.values().filter_map(|token| {
            let revision = changed(token)?;
            Some((revision, edge_messages::token(token, self.holders.bounds(&token.ownership()))))
        });
        for (revision, token) in affected.collect::<Vec<_>>() {
            self.revision = revision;
            self.set(StreamType::Token, &token.name.clone(), Some(&token));
        }
    }

    fn resolve_servers(&mut self, stale: &BTreeMap<String, i64>, held: &BTreeMap<String, i64>) {
        let touched = std::mem::take(&mut self.touched);
        let changed = |server: &Server| {
            let own = stale.get(&server.name).copied();
            own.max(leads_to(server, &touched)).max(self.holders.change_of(&server.ownership(), held))
        };
        let mut affected: Vec<_> = self
            .servers
            .values()
            .filter_map(|server| Some((weight(server), server.name.clone(), changed(server)?)))
            .collect();
        // What takes long waits for what does not.
        affected.sort();
        let mut steps = 0;
        for (_, name, revision) in affected {
            if steps > MAX_STEPS {
                self.stale.insert(name, revision);
                continue;
            }
            let Some(server) = self.servers.get(&name) else { continue };
            let (resolved, taken) = self.resolve(server);
            steps += taken;
            self.revision = revision;
            self.set(StreamType::Server, &name, Some(&resolved));
        }
    }

    /// Returns what has become too large to be sent since this was last called. Edges keep what they hold of it.
    pub fn take_too_large(&mut self) -> Vec<TooLarge> {
        let grown = std::mem::take(&mut self.grown);
        let reason = |key: (StreamType, String)| {
            let reason = self.too_large.get(&key)?.clone();
            Some(TooLarge { kind: key.0, name: key.1, reason })
        };
        grown.into_iter().filter_map(reason).collect()
    }

    fn apply_server(&mut self, row: &Row) -> Result<(), StoreError> {
        let server = if row.deleted { None } else { Some(row.message::<Server>()?) };
        match server.filter(|server| !server.disabled) {
            Some(server) => {
                self.stale.insert(row.name.clone(), row.revision);
                self.servers.insert(row.name.clone(), server);
            }
            None => {
                self.servers.remove(&row.name);
                self.remove(StreamType::Server, &row.name);
            }
        }
        Ok(())
    }

    fn apply_token(&mut self, row: &Row) -> Result<(), StoreError> {
        if row.deleted {
            self.owned_tokens.remove(&row.name);
            self.remove(StreamType::Token, &row.name);
            return Ok(());
        }
        let token: Token = row.message()?;
        let of = token.ownership();
        if of.owner.is_empty() && of.team.is_empty() {
            self.owned_tokens.remove(&row.name);
            self.set(StreamType::Token, &row.name, Some(&edge_messages::token(&token, Bounds::default())));
        } else {
            self.stale.insert(row.name.clone(), row.revision);
            self.owned_tokens.insert(row.name.clone(), token);
        }
        Ok(())
    }

    fn apply_team(&mut self, row: &Row) -> Result<(), StoreError> {
        let team = if row.deleted { None } else { Some(row.message::<Team>()?) };
        self.holders.put_grant(row.revision, &row.name, team.is_some().then_some(row.uid.as_str()));
        let gid = self.holders.gid(&row.name).unwrap_or_default();
        self.put_team_rules(row, team.as_ref().map(|team| team.rules.clone()).unwrap_or_default());
        self.set(StreamType::Grant, &row.name, team.map(|team| grants::team(&team, gid)).as_ref());
        Ok(())
    }

    /// The servers of a team have its rules.
    fn put_team_rules(&mut self, row: &Row, rules: Vec<Rule>) {
        let before = self.team_rules.remove(&row.name).unwrap_or_default();
        if before != rules {
            let own = self.servers.values().filter(|server| server.ownership().team == row.name);
            self.stale.extend(own.map(|server| (server.name.clone(), row.revision)));
        }
        if !rules.is_empty() {
            self.team_rules.insert(row.name.clone(), rules);
        }
    }

    fn apply_role(&mut self, row: &Row) -> Result<(), StoreError> {
        let role = if row.deleted { None } else { Some(row.message::<Role>()?) };
        self.holders.put_grant(row.revision, &row.name, role.is_some().then_some(row.uid.as_str()));
        match role {
            Some(role) => {
                self.roles.insert(row.name.clone(), roles::permissions_named(&role.permissions));
            }
            None => drop(self.roles.remove(&row.name)),
        }
        self.set_role(&row.name);
        Ok(())
    }

    /// Makes the grant of a role that exists and that somebody has.
    fn set_role(&mut self, name: &str) {
        let permissions = roles::permissions_of(name).or(self.roles.get(name).copied());
        let in_use = permissions.filter(|_| self.roles_in_use.contains(name));
        let grant = in_use.and_then(|held| Some(grants::role(name, self.holders.gid(name)?, held)));
        self.set(StreamType::Grant, name, grant.as_ref());
    }

    fn forget(&mut self, row: &Row) {
        let kind = match row.kind {
            Kind::Upstream => {
                self.remove(StreamType::Secret, &row.name);
                StreamType::Upstream
            }
            Kind::Tool => StreamType::Tool,
            Kind::Resource => StreamType::Resource,
            Kind::Prompt => StreamType::Prompt,
            Kind::Token => StreamType::Token,
            Kind::Server => StreamType::Server,
            Kind::Team | Kind::Role => StreamType::Grant,
        };
        self.remove(kind, &row.name);
    }

    /// A server as edges see it, and the steps that it took.
    fn resolve(&self, server: &Server) -> (edge::Server, usize) {
        let of = server.ownership();
        let own = self.holders.selecting_as(of.clone());
        let exposure = evaluate_as(server, &own, &self.catalogue, &mut Steps::new(members::MAX_STEPS));
        let is_shared = of.visibility != Visibility::Private;
        let mut resolved = edge::Server {
            name: server.name.clone(),
            uid: server.meta.as_ref().map(|meta| meta.uid.clone()).unwrap_or_default(),
            title: server.title.clone(),
            instructions: server.instructions.clone(),
            tools: Vec::new(),
            resources: Vec::new(),
            resource_templates: Vec::new(),
            prompts: Vec::new(),
            owner_uid: self.holders.uid(&of.owner),
            team_gid: self.holders.gid(&of.team).filter(|_| is_shared).unwrap_or_default(),
            public: of.visibility == Visibility::Public,
            rules: Vec::new(),
            ruled: None,
        };
        for exposed in &exposure.entries {
            let list = match exposed.kind {
                Kind::Resource if exposed.entry.template => &mut resolved.resource_templates,
                Kind::Resource => &mut resolved.resources,
                Kind::Prompt => &mut resolved.prompts,
                _ => &mut resolved.tools,
            };
            list.push(self.entry(exposed));
        }
        (rules::ruled(resolved, self.rules(server, &of.team)), exposure.steps)
    }

    /// The rules of a server, then those of its team.
    fn rules(&self, server: &Server, team: &str) -> Vec<edge::CompiledRule> {
        let of_team = self.team_rules.get(team).map(Vec::as_slice).unwrap_or_default();
        rules::compiled(&server.name, &server.rules).chain(rules::compiled(team, of_team)).collect()
    }

    fn entry(&self, exposed: &Exposed<'_>) -> edge::Entry {
        edge::Entry {
            exposed_name: exposed.exposed_name.clone(),
            target: exposed.entry.name.clone(),
            overrides_json: edge_messages::overrides(exposed.member, &self.definition(exposed)),
            uri_prefix: exposed.uri_prefix.clone(),
        }
    }

    /// Only hints are merged with what the upstream says; all else replaces it without looking.
    fn definition(&self, exposed: &Exposed<'_>) -> String {
        let item = exposed.member.hints.as_ref().and(self.items[StreamType::Tool].get(&*exposed.entry.name));
        let tool = item.and_then(|item| edge::Tool::decode(item.body()).ok());
        tool.map(|tool| tool.definition_json).unwrap_or_default()
    }

    fn set(&mut self, kind: StreamType, name: &str, message: Option<&impl Message>) {
        let Some(message) = message else { return self.remove(kind, name) };
        self.projected += 1;
        let item = content::item(kind, name, self.revision, message.encode_to_vec());
        self.note_excess(kind, name, item.excess());
        let items = &mut self.items[kind];
        if items.get(name).is_none_or(|known| **known != item) {
            Arc::make_mut(items).insert(name.into(), item.into());
        }
    }

    fn note_excess(&mut self, kind: StreamType, name: &str, excess: Option<String>) {
        if excess.is_none() && self.too_large.is_empty() {
            return;
        }
        let key = (kind, name.to_owned());
        let Some(reason) = excess else {
            self.too_large.remove(&key);
            return;
        };
        if self.too_large.insert(key.clone(), reason).is_none() {
            self.grown.insert(key);
        }
    }

    fn remove(&mut self, kind: StreamType, name: &str) {
        self.note_excess(kind, name, None);
        let items = &mut self.items[kind];
        if items.contains_key(name) {
            Arc::make_mut(items).remove(name);
        }
    }
}

/// How long it takes to find what a server exposes, beside others: by its patterns, whatever they are compared with.
fn weight(server: &Server) -> usize {
    let members = lists(server).into_iter().flat_map(|(_, members)| members);
    members
        .filter(|member| glob::is_pattern(&member.r#match))
        .map(|member| glob::steps(&member.r#match, 0))
        .sum()
}

/// Returns the newest revision that changed an upstream of which a member of the server may select something. `None`: none did.
pub fn leads_to(server: &Server, touched: &BTreeMap<String, i64>) -> Option<i64> {
    let members = lists(server).into_iter().flat_map(|(_, members)| members);
    let targets = members.filter_map(|member| Target::parse(&member.r#match));
    let changed = |pattern: &str| match glob::is_pattern(pattern) {
        true => {
            let matching = touched.iter().filter(|(upstream, _)| glob::matches(pattern, upstream));
            matching.map(|(_, revision)| *revision).max()
        }
        false => touched.get(pattern).copied(),
    };
    targets.filter_map(|target| changed(target.upstream)).max()
}
