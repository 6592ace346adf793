//! Rows of the registry to the snapshot of edges, kept current change by change. Pure.
//!
//! It must not know where rows come from, nor who may see what is secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use delta::{ByType, Items};
use prost::Message;
use trunkline::edge::v1 as edge;
use trunkline::edge::v1::{StreamType, TrustBundle};
use trunkline::identity::v1::Token;
use trunkline::registry::v1::{Credential, Prompt, Resource, Server, Tool, Upstream};

use super::content::{self, Snapshot};
use super::edge_messages;
use crate::domain::members::{Exposed, Target, evaluate, lists};
use crate::domain::{Catalogue, Kind, names};
use crate::store::{Row, StoreError};

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
    /// Servers that changed themselves, and the revision that did.
    stale: BTreeMap<String, i64>,
    /// The revision that what is taken in is of.
    revision: i64,
    /// What is too large to be sent to edges, each with the reason.
    too_large: BTreeMap<(StreamType, String), String>,
    /// Those of it that became too large since they were last asked for.
    grown: BTreeSet<(StreamType, String)>,
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
            Kind::Token => {
                let token: Token = row.message()?;
                self.set(StreamType::Token, &row.name, Some(&edge_messages::token(&token)));
                Ok(())
            }
            Kind::Team | Kind::Role => Ok(()),
        }
    }

    /// Takes the opened credential of an upstream in, which changed at a revision.
    pub fn put_secret(&mut self, revision: i64, upstream: &str, credential: &Credential) {
        self.revision = revision;
        self.set(StreamType::Secret, upstream, Some(&edge_messages::secret(upstream, credential)));
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

    /// The snapshot as of now. Only servers that something changed for are resolved again.
    pub fn snapshot(&mut self, revision: i64) -> Snapshot {
        let (touched, stale) = (std::mem::take(&mut self.touched), std::mem::take(&mut self.stale));
        let changed = |server: &Server| {
            let own = stale.get(&server.name).copied();
            own.max(leads_to(server, &touched))
        };
        let affected: Vec<_> = self
            .servers
            .values()
            .filter_map(|server| Some((server.name.clone(), changed(server)?, self.resolve(server))))
            .collect();
        for (name, revision, resolved) in affected {
            self.revision = revision;
            self.set(StreamType::Server, &name, Some(&resolved));
        }
        Snapshot { revision, items: self.items.clone() }
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

    fn resolve(&self, server: &Server) -> edge::Server {
        let exposure = evaluate(server, &self.catalogue);
        let mut resolved = edge::Server {
            name: server.name.clone(),
            uid: server.meta.as_ref().map(|meta| meta.uid.clone()).unwrap_or_default(),
            title: server.title.clone(),
            instructions: server.instructions.clone(),
            tools: Vec::new(),
            resources: Vec::new(),
            resource_templates: Vec::new(),
            prompts: Vec::new(),
            ..edge::Server::default()
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
        resolved
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

/// Returns the newest revision that changed an upstream of which a member of the server may select something. `None`: none did.
fn leads_to(server: &Server, touched: &BTreeMap<String, i64>) -> Option<i64> {
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
