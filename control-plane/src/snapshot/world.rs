//! What edges are sent, as decisions look at it. Pure.
//!
//! It must not know people, whose bearers name what they hold, nor who asks.

use std::collections::HashMap;

use access::world::{Conditions, Entry, Held, OwnEntry, Pair, Role, Scope, Server, Token, World};
use mcp::uri::{UriTemplate, naming, resolves_elsewhere};
use prost::Message;
use trunkline::edge::v1 as edge;
use trunkline::edge::v1::StreamType;

use super::content::Snapshot;
use super::rules;
use crate::domain::names;

/// A snapshot, whose grants were read.
#[derive(Debug)]
pub struct Published<'a> {
    snapshot: &'a Snapshot,
    /// The names of roles and teams by the ids of their grants.
    names: HashMap<String, String>,
    grants: World,
}

/// A server, with no more of it than a request may mean.
#[derive(Debug, Default)]
pub struct Meant {
    /// The server.
    pub server: Server,
    /// Its templates that produce the URI.
    pub templates: Vec<String>,
}

impl<'a> Published<'a> {
    /// Reads the grants of a snapshot.
    pub fn read(snapshot: &'a Snapshot) -> Self {
        let (mut names, mut grants) = (HashMap::new(), World::default());
        for item in snapshot.items[StreamType::Grant].values() {
            let Ok(grant) = edge::Grant::decode(item.body()) else { continue };
            names.insert(grant.gid, grant.name.clone());
            match grant.kind {
                Some(edge::grant::Kind::Role(role)) => {
                    let role = Role { may_call: role.may_call, every_server: role.every_server };
                    grants.roles.insert(grant.name, role);
                }
                Some(edge::grant::Kind::Team(edge::TeamGrant { servers, tools, resources, prompts })) => {
                    grants.teams.insert(grant.name, Scope { servers, tools, resources, prompts });
                }
                None => {}
            }
        }
        Self { snapshot, names, grants }
    }

    /// What roles and teams grant, and nothing else yet.
    pub fn grants(&self) -> World {
        self.grants.clone()
    }

    /// The revision that edges are sent.
    pub fn revision(&self) -> i64 {
        self.snapshot.revision
    }

    /// A server, if edges have it.
    pub fn server(&self, name: &str, target: Option<&str>) -> Option<Meant> {
        let mut server = unruled(self.message(StreamType::Server, name)?);
        let renewed = target.and_then(naming::renewed);
        let is_meant = |entry: &edge::Entry| {
            let exposed = Some(entry.exposed_name.as_str());
            target.is_some() && (exposed == target || exposed == renewed.as_deref())
        };
        let produces = |entry: &edge::Entry| target.is_some_and(|uri| produces(&entry.exposed_name, uri));
        for list in [&mut server.tools, &mut server.resources, &mut server.prompts] {
            list.retain(is_meant);
        }
        server.resource_templates.retain(|entry| produces(entry) || is_meant(entry));
        let producing = server.resource_templates.iter().filter(|entry| produces(entry));
        let templates: Vec<_> = producing.map(|entry| entry.exposed_name.clone()).collect();
        Some(Meant { server: self.read_server(server, target), templates })
    }

    /// A server with all that it exposes, if edges have it.
    pub fn whole_server(&self, name: &str) -> Option<Server> {
        self.message(StreamType::Server, name).map(|server| self.read_server(unruled(server), None))
    }

    /// A token, if edges have it.
    pub fn token(&self, name: &str) -> Option<Token> {
        self.message(StreamType::Token, name).map(|token| self.read_token(token))
    }

    /// The tokens whose names come after one, by name.
    pub fn tokens_after<'b>(&'b self, after: &'b str) -> impl Iterator<Item = (&'b str, Token)> {
        let items = self.snapshot.items[StreamType::Token].iter().map(|(name, item)| (&**name, item));
        items
            .filter(move |(name, _)| *name > after)
            .filter_map(|(name, item)| Some((name, self.read_token(edge::Token::decode(item.body()).ok()?))))
    }

    fn message<M: Message + Default>(&self, kind: StreamType, name: &str) -> Option<M> {
        let item = self.snapshot.items[kind].get(name)?;
        M::decode(item.body()).ok()
    }

    /// The name of the role or team that has this grant. Of one that is gone: the id, which grants nothing.
    fn name(&self, gid: &str) -> String {
        self.names.get(gid).cloned().unwrap_or_else(|| gid.to_owned())
    }

    /// Something that a server exposes, of which a request has this `target`.
    fn entry(&self, entry: edge::Entry, target: Option<&str>) -> Entry {
        let edge::Entry { exposed_name, overrides_json, uri_prefix, .. } = &entry;
        let resource = self.message::<edge::Resource>(StreamType::Resource, &entry.target);
        let uri = resource.map(|own| if own.uri.is_empty() { own.uri_template } else { own.uri });
        let tool = self.message::<edge::Tool>(StreamType::Tool, &entry.target);
        // What is no tool is only read.
        let hints = |overrides: &str| {
            tool.as_ref().map_or((true, false), |tool| rules::hints(&tool.definition_json, overrides))
        };
        let ((read_only, destructive), by_itself) = (hints(overrides_json), hints(""));
        let own = OwnEntry {
            leads_out: uri.as_deref().is_some_and(resolves_elsewhere),
            produced: target
                .and_then(|uri| naming::original(uri_prefix, uri))
                .unwrap_or_default()
                .into_owned(),
            name: uri.clone().unwrap_or_else(|| own_name(&entry.target)),
            read_only: by_itself.0,
            destructive: by_itself.1,
        };
        Entry {
            former: uri.as_deref().and_then(|own| naming::former(uri_prefix, own)),
            leads_out: uri.is_some() && resolves_elsewhere(exposed_name),
            upstream: names::upstream_id(&entry.target).unwrap_or_default().to_owned(),
            name: entry.exposed_name,
            read_only,
            destructive,
            own,
        }
    }

    fn read_server(&self, server: edge::Server, target: Option<&str>) -> Server {
        let read =
            |entries: Vec<edge::Entry>| entries.into_iter().map(|entry| self.entry(entry, target)).collect();
        Server {
            owner_uid: server.owner_uid,
            team: self.name(&server.team_gid),
            public: server.public,
            tools: read(server.tools),
            resources: read(server.resources),
            templates: read(server.resource_templates),
            prompts: read(server.prompts),
            rules: rules::ready(server.rules),
        }
    }

    fn read_token(&self, token: edge::Token) -> Token {
        let (expires_s, revoked) = (token.expire_time.map(|end| end.seconds), token.revoked);
        Token { expires_s, revoked, ..self.access(token) }
    }

    /// What a token may do: where it cannot be said by its own fields those are empty, and this says it.
    fn access(&self, token: edge::Token) -> Token {
        let edge::Token { servers, tools, resources, prompts, access, .. } = token;
        let Some(access) = access else {
            return Token { scope: Scope { servers, tools, resources, prompts }, ..Token::default() };
        };
        let edge::Access { servers, tools, resources, prompts, .. } = access;
        let ceiling = access.ceiling.map(|ceiling| Held {
            name: String::new(),
            uid: ceiling.owner_uid,
            pairs: ceiling.pairs.iter().map(|pair| self.pair(pair)).collect(),
        });
        let conditions = Conditions {
            methods: access.methods,
            from: access.from,
            not_before_s: access.not_before.map(|begin| begin.seconds),
            windows: access.windows,
            limits: access.limits.into_iter().map(|limit| limit.text).collect(),
        };
        let scope = Scope { servers, tools, resources, prompts };
        Token { scope, conditions, ceiling, suspended: access.suspended, ..Token::default() }
    }

    fn pair(&self, pair: &edge::GrantPair) -> Pair {
        let name = |gid: &str| if gid.is_empty() { String::new() } else { self.name(gid) };
        Pair { role: name(&pair.role), team: name(&pair.team) }
    }
}

/// A server with all that it exposes in the place of what one without rules exposes.
fn unruled(mut server: edge::Server) -> edge::Server {
    if let Some(edge::RuledEntries { tools, resources, resource_templates, prompts }) = server.ruled.take() {
        server = edge::Server { tools, resources, resource_templates, prompts, ..server };
    }
    server
}

/// The name of a tool or prompt at its upstream.
fn own_name(target: &str) -> String {
    names::decode_id(names::id(target)).map(|own| own.into_owned()).unwrap_or_default()
}

/// Whether a template produces a URI, in a form that edges take.
fn produces(template: &str, uri: &str) -> bool {
    matches!(UriTemplate::new(template).uri(uri), Some(Ok(_)))
}
