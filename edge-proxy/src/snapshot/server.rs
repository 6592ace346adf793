//! Virtual servers, their tables, and the entries in those.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use mcp::revision::Era;
use mcp::uri::{UriTemplate, naming};

use super::{List, ServerRules, ServerViews, Upstream, UriIndex};

/// All virtual servers by id, with their views; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Servers(Arc<HashMap<Box<str>, Arc<ServerViews>>>);

/// A virtual server, indexed.
#[derive(Debug, Default)]
pub struct Server {
    /// `servers/{server}`.
    pub name: Box<str>,
    /// The id alone, as in the path.
    pub id: Box<str>,
    /// The identity of this life of the server; sealed handles are bound to it.
    pub uid: Box<str>,
    /// The uid of its owner; empty where it has none.
    pub owner_uid: Box<str>,
    /// The id of the team whose members see it; empty where there is none.
    pub team_gid: Box<str>,
    /// True if everybody may call it who may call servers at all.
    pub public: bool,
    /// The title that clients are shown.
    pub title: Box<str>,
    /// The instructions for clients.
    pub instructions: Box<str>,
    /// By exposed name.
    pub tools: Table,
    /// By exposed URI.
    pub resources: Table,
    /// By exposed URI template.
    pub resource_templates: Table,
    /// Where URIs lead, and come from.
    pub uris: UriIndex,
    /// True if clients see a URI, or a template of URIs, otherwise than its upstream.
    pub renames_uris: bool,
    /// By exposed name.
    pub prompts: Table,
    /// The upstreams that its entries lead to, each once.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Its rules, if it has any.
    pub rules: Option<Box<ServerRules>>,
    /// Changes whenever clients must be notified of a changed list of tools.
    pub tools_generation: u64,
    /// Changes whenever clients must be notified of a changed list of resources or templates.
    pub resources_generation: u64,
    /// Changes whenever clients must be notified of a changed list of prompts.
    pub prompts_generation: u64,
}

/// The entries of one kind, in the order of the list, indexed by exposed name.
#[derive(Debug, Default)]
pub struct Table {
    /// In the order of the list. Servers that expose the same thing under the same name share the entry.
    pub entries: Vec<Arc<Entry>>,
    index: HashMap<ByExposedName, u32>,
    /// The bytes of all exposed names, and one more for each.
    name_bytes: usize,
}

/// One tool, resource, template or prompt that a server exposes.
#[derive(Debug)]
pub struct Entry {
    /// The name, URI or URI template that clients see.
    pub exposed: Box<str>,
    /// The name that the upstream knows: tool or prompt name, URI or URI template.
    pub original: Box<str>,
    /// The resource name, `upstreams/{upstream}/tools/{tool}`, that usage is counted by.
    pub target: Box<str>,
    /// The upstream that is called.
    pub upstream: Arc<Upstream>,
    /// The definition as clients of the modern era see it: renamed, with overrides, completed where it is not valid;
    /// empty where it is withheld.
    pub definition: Bytes,
    /// The same for clients of the legacy era, where it differs.
    pub legacy_definition: Option<Bytes>,
    /// By era, whether it cannot be read as valid, and so is in no list. It can be called by its name.
    pub withheld: [bool; 2],
    /// The prefix to take off an exposed URI to get the upstream's own; empty where they are the same.
    pub uri_prefix: Box<str>,
    /// What its exposed URIs are like, where it is a template.
    pub template: Option<Box<UriTemplate<'static>>>,
    /// The facts of a tool's definition that calls need.
    pub tool: ToolFacts,
    /// A hash of all that clients see of it.
    pub(super) fingerprint: u128,
}

/// The facts of a tool's definition that calls need.
#[derive(Debug, Default, Clone)]
pub struct ToolFacts {
    /// `annotations.readOnlyHint` and `destructiveHint`, where it has them.
    pub hints: [Option<bool>; 2],
    /// The same as its upstream says it, whatever the server makes of it.
    pub own_hints: [Option<bool>; 2],
    /// `annotations.readOnlyHint` or `idempotentHint` is true: safe to send twice.
    pub safe_to_repeat: bool,
    /// Arguments that are mirrored into `Mcp-Param-*` headers, from the upstream's `x-mcp-header`.
    pub mirrored: Vec<mcp::header::MirroredParam>,
    /// Its `x-mcp-header` annotations break the rules: clients of the modern era must not be offered it.
    pub unfit_for_modern: bool,
    /// True if the legacy side of its upstream makes tasks of its calls (2025-11-25).
    pub tasks: TaskSupport,
}

/// Declares whether calls of a tool may be tasks, as its `execution.taskSupport` declares.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum TaskSupport {
    /// No call is a task.
    #[default]
    Forbidden,
    /// The caller chooses.
    Optional,
    /// Every call is a task.
    Required,
}

impl Servers {
    /// Creates a set of servers.
    pub fn new(servers: impl IntoIterator<Item = Arc<ServerViews>>) -> Servers {
        Servers(Arc::new(servers.into_iter().map(|views| (views.server().id.clone(), views)).collect()))
    }

    /// The server with this id (`dev`, not `servers/dev`).
    pub fn get(&self, id: &str) -> Option<&Arc<Server>> {
        self.views(id).map(|views| views.server())
    }

    /// The views of the server with this id.
    pub fn views(&self, id: &str) -> Option<&Arc<ServerViews>> {
        self.0.get(id)
    }

    /// The servers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.0.values().map(|views| views.server())
    }

    /// The views of all servers, in no order.
    pub(super) fn all_views(&self) -> impl Iterator<Item = &Arc<ServerViews>> {
        self.0.values()
    }

    /// Counts the servers.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Server {
    /// Returns the table of `list`.
    pub fn table(&self, list: List) -> &Table {
        match list {
            List::Tools => &self.tools,
            List::Resources => &self.resources,
            List::ResourceTemplates => &self.resource_templates,
            List::Prompts => &self.prompts,
        }
    }

    /// Returns the positions of the templates that a URI is matched with, the more specific ones first, and the earlier of
    /// two that are as specific. The URI may be spelled as before `ui://` was kept.
    pub fn templates_to_match(&self, uri: &str) -> Vec<usize> {
        let mut found: Vec<usize> = self.uris.templates(uri).collect();
        if let Some(renewed) = naming::renewed(uri) {
            found.extend(self.uris.templates(&renewed));
            let template = |at: usize| self.resource_templates.entries.get(at)?.template.as_ref();
            found.sort_by_cached_key(|at| (template(*at).map(|template| template.generality()), *at));
            found.dedup();
        }
        found
    }
}

impl Table {
    /// Creates a table of entries whose exposed names differ.
    pub fn new(entries: Vec<Arc<Entry>>) -> Table {
        let key = |(at, entry): (usize, &Arc<Entry>)| {
            (ByExposedName(Arc::clone(entry)), u32::try_from(at).unwrap_or(u32::MAX))
        };
        let index = entries.iter().enumerate().map(key).collect();
        let name_bytes = entries.iter().map(|entry| entry.exposed.len() + 1).sum();
        Table { entries, index, name_bytes }
    }

    /// The steps of matching this glob against all of its names, at most.
    pub fn glob_steps(&self, pattern: &str) -> usize {
        pattern.len() + glob::steps(pattern, 0) * self.name_bytes
    }

    /// Returns the position of the entry with this exposed name.
    pub fn position(&self, exposed: &str) -> Option<usize> {
        self.index.get(exposed).map(|at| *at as usize)
    }

    /// Returns the entry with this exposed name, and its position.
    pub fn find(&self, exposed: &str) -> Option<(usize, &Arc<Entry>)> {
        let at = self.position(exposed)?;
        Some((at, self.entries.get(at)?))
    }

    /// Returns the resource or template with this exposed URI, which may be the former one, and its position.
    pub fn find_uri(&self, exposed: &str) -> Option<(usize, &Arc<Entry>)> {
        self.find(exposed).or_else(|| {
            let found = self.find(&naming::renewed(exposed)?)?;
            (found.1.former().as_deref() == Some(exposed)).then_some(found)
        })
    }
}

impl Entry {
    /// The URI, or URI template, by which scopes and clients may still name it: its exposed one before `ui://` was kept.
    pub fn former(&self) -> Option<String> {
        naming::former(&self.uri_prefix, &self.original)
    }

    /// Returns whether clients of `era` are shown it: not what cannot be read as valid and, in the modern era, no tool that
    /// breaks its rules.
    pub fn is_offered_in(&self, era: Era) -> bool {
        match (era, self.upstream.side_for(era)) {
            _ if self.withheld[era as usize] => false,
            (_, None) => false,
            (Era::Legacy, Some(Era::Legacy)) => true,
            _ => !self.tool.unfit_for_modern,
        }
    }

    /// Returns the definition for clients of `era`.
    pub fn definition(&self, era: Era) -> &Bytes {
        match &self.legacy_definition {
            Some(definition) if era == Era::Legacy => definition,
            _ => &self.definition,
        }
    }
}

/// An entry as a key, so that the index of a table need not copy its names.
#[derive(Debug)]
struct ByExposedName(Arc<Entry>);

impl Borrow<str> for ByExposedName {
    fn borrow(&self) -> &str {
        &self.0.exposed
    }
}

impl Hash for ByExposedName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.exposed.hash(state);
    }
}

impl PartialEq for ByExposedName {
    fn eq(&self, other: &Self) -> bool {
        self.0.exposed == other.0.exposed
    }
}

impl Eq for ByExposedName {}
