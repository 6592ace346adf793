//! What an edge knows: one immutable, indexed value that a request pins from start to end.
//!
//! It must not know transports, sessions or upstream connections, and nothing here does IO except
//! `client` (the stream from the control plane) and `disk` (the last known good copy).

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, Uri};
use mcp::revision::Revision;

/// Everything an edge serves from, at one revision. Built off the request path, then published whole.
#[derive(Debug)]
pub struct Snapshot {
    /// The registry revision it was built from. For people.
    pub revision: i64,
    /// Virtual servers by id (`dev`, not `servers/dev`).
    pub servers: HashMap<Box<str>, Arc<Server>>,
    /// Tokens by uid, the `jti` of a bearer.
    pub tokens: HashMap<Box<str>, Arc<Token>>,
    /// Upstreams by id.
    pub upstreams: HashMap<Box<str>, Arc<Upstream>>,
    /// What bearers and handles are believed by.
    pub trust: Arc<Trust>,
}

/// A backend, with its credential compiled in.
#[derive(Debug)]
pub struct Upstream {
    /// `upstreams/{upstream}`.
    pub name: Box<str>,
    /// The id alone.
    pub id: Box<str>,
    /// Identity of this life of the upstream.
    pub uid: Box<str>,
    /// The endpoint, credential parameters in its query included.
    pub uri: Uri,
    /// Headers that carry the credential, marked sensitive.
    pub credential_headers: HeaderMap,
    /// Identity of URL and credential together: connections and sessions of another one are not reused.
    pub connection_key: u64,
    /// Until the first byte of an answer, and between two bytes after that.
    pub request_timeout: std::time::Duration,
    /// The modern revisions that both sides speak, newest first. Empty: not to be spoken to in that era.
    pub modern: Vec<Revision>,
    /// The legacy revision it negotiated with the control plane. `None`: not to be spoken to in that era.
    pub legacy: Option<Revision>,
    /// Whether its legacy side gives out session ids.
    pub legacy_sessionful: bool,
    /// Its capabilities in the modern era, as the JSON object it sent; `{}` where unknown.
    pub modern_capabilities: Box<str>,
    /// Its capabilities in the legacy era, as the JSON object it sent; `{}` where unknown.
    pub legacy_capabilities: Box<str>,
}

/// A virtual server, indexed.
#[derive(Debug)]
pub struct Server {
    /// `servers/{server}`.
    pub name: Box<str>,
    /// The id alone, as in the path.
    pub id: Box<str>,
    /// Identity of this life of the server; sealed handles are bound to it.
    pub uid: Box<str>,
    /// What clients are shown.
    pub title: Box<str>,
    /// What clients are told about its use.
    pub instructions: Box<str>,
    /// By exposed name.
    pub tools: Table,
    /// By exposed URI.
    pub resources: Table,
    /// By exposed URI template; matched in order by `templates_for`.
    pub resource_templates: Table,
    /// By exposed name.
    pub prompts: Table,
    /// Every upstream that one of its entries leads to, each once.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Changes whenever clients must be told that the list of tools changed.
    pub tools_generation: u64,
    /// Changes whenever clients must be told that the list of resources or templates changed.
    pub resources_generation: u64,
    /// Changes whenever clients must be told that the list of prompts changed.
    pub prompts_generation: u64,
}

/// The entries of one kind, in the order of the list, indexed by exposed name.
#[derive(Debug, Default)]
pub struct Table {
    /// In the order of the list.
    pub entries: Vec<Entry>,
    /// Exposed name to position in `entries`.
    pub index: HashMap<Box<str>, u32>,
}

/// One thing that a server exposes, and where it leads.
#[derive(Debug)]
pub struct Entry {
    /// The name, URI or URI template that clients see.
    pub exposed: Box<str>,
    /// What the upstream knows it by: tool or prompt name, URI or URI template.
    pub original: Box<str>,
    /// The resource name, `upstreams/{upstream}/tools/{tool}`; what usage is counted by.
    pub target: Box<str>,
    /// Where it is called.
    pub upstream: Arc<Upstream>,
    /// The definition as clients of the modern era see it: renamed, with overrides.
    pub definition: Bytes,
    /// Taken off an exposed URI to get the upstream's own; empty where they are the same.
    pub uri_prefix: Box<str>,
    /// What a tool's definition says that calling it needs.
    pub tool: ToolFacts,
}

/// What calling a tool needs to know of its definition.
#[derive(Debug, Default, Clone)]
pub struct ToolFacts {
    /// `annotations.readOnlyHint` or `idempotentHint` is true: safe to send twice.
    pub safe_to_repeat: bool,
    /// Arguments that are mirrored into `Mcp-Param-*` headers, from the upstream's `x-mcp-header`.
    pub mirrored: Vec<mcp::header::MirroredParam>,
}

/// What one bearer may do.
#[derive(Debug)]
pub struct Token {
    /// `tokens/{token}`.
    pub name: Box<str>,
    /// The `jti` of its bearer.
    pub uid: Box<str>,
    /// When it ends, in seconds since the Unix epoch.
    pub expires: Option<u64>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Shared between all tokens with the same permissions.
    pub scope: Arc<Scope>,
}

/// A set of permissions, compiled; one object for every token that has the same.
#[derive(Debug)]
pub struct Scope {
    /// What it shows of each server it allows, by server id. A server that is not here is not allowed.
    pub views: HashMap<Box<str>, View>,
}

/// What one scope sees of one server: decided once, for listing and for calling.
#[derive(Debug)]
pub struct View {
    /// The server.
    pub server: Arc<Server>,
    /// Which of `server.tools.entries` are allowed.
    pub tools: Allowed,
    /// Which of `server.resources.entries` are allowed.
    pub resources: Allowed,
    /// Which of `server.resource_templates.entries` are allowed.
    pub resource_templates: Allowed,
    /// Which of `server.prompts.entries` are allowed.
    pub prompts: Allowed,
    /// The globs for URIs that a template produced, which no entry names.
    pub resource_globs: Vec<Box<str>>,
    /// The list bodies, rendered when first asked for and kept for the life of the snapshot.
    pub lists: Lists,
}

/// A set of positions in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// One bit a position.
    pub bits: Box<[u64]>,
}

/// Pre-rendered list bodies of a view, by list and era.
#[derive(Debug, Default)]
pub struct Lists {
    /// `tools/list`: legacy, modern.
    pub tools: [OnceLock<Pages>; 2],
    /// `resources/list`: legacy, modern.
    pub resources: [OnceLock<Pages>; 2],
    /// `resources/templates/list`: legacy, modern.
    pub resource_templates: [OnceLock<Pages>; 2],
    /// `prompts/list`: legacy, modern.
    pub prompts: [OnceLock<Pages>; 2],
}

/// The pages of one list.
#[derive(Debug)]
pub struct Pages {
    /// Each page's array of definitions, brackets included: `[{…},{…}]`.
    pub pages: Vec<Bytes>,
}

/// What bearers and sealed handles are believed by.
#[derive(Debug)]
pub struct Trust {
    /// What `iss` of a bearer must be.
    pub issuer: Box<str>,
    /// What `aud` of a bearer must be.
    pub audience: Box<str>,
    /// Public keys by `kid`.
    pub keys: HashMap<Box<str>, VerificationKey>,
    /// AES-256-GCM keys of handles: the first seals, all open.
    pub sealing: Vec<SealingKey>,
    /// Changes whenever the keys do: caches of verified bearers are keyed by it.
    pub generation: u64,
    /// How long bearers are believed after a control plane was last heard.
    pub max_age: std::time::Duration,
}

/// A public key and its algorithm.
pub struct VerificationKey {
    /// The only algorithm accepted with it.
    pub algorithm: jsonwebtoken::Algorithm,
    /// The key.
    pub key: jsonwebtoken::DecodingKey,
}

/// A symmetric key that seals handles.
pub struct SealingKey {
    /// Names the key within a handle.
    pub id: u32,
    /// The key.
    pub key: aws_lc_rs::aead::LessSafeKey,
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerificationKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealingKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Allowed {
    /// Whether the entry at `position` is allowed.
    pub fn contains(&self, position: usize) -> bool {
        self.bits.get(position / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }
}
