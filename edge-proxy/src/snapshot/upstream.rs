//! An upstream as an edge calls it: how it is reached, with which credential, and what it is.

use http::{HeaderMap, Uri};
use mcp::json;
use mcp::revision::{Era, Revision};
use mcp::secrets::Secrets;
use url::Url;

/// An upstream.
pub struct Upstream {
    /// `upstreams/{upstream}`.
    pub name: Box<str>,
    /// The id alone.
    pub id: Box<str>,
    /// The identity of this life of the upstream.
    pub uid: Box<str>,
    pub reach: Reach,
    pub credential: Credential,
    /// The connections and sessions that may be used for it.
    pub connection_key: ConnectionKey,
    /// The longest wait for the first byte of an answer, and between two bytes after that.
    pub request_timeout: std::time::Duration,
    pub kind: UpstreamKind,
}

impl Upstream {
    /// Returns the beginning of a text that the upstream sent, as a part of a message of ours: one line, without the
    /// credential that it was called with.
    pub fn excerpt(&self, text: &str) -> String {
        let url = self.credential.url(self.reach.url()).ok();
        let url = url.and_then(|url| Url::parse(&url.to_string()).ok());
        let secrets = url.map(|url| Secrets::of_request(&url, &self.credential.headers));
        secrets.map_or_else(|| "no text".to_owned(), |secrets| secrets.excerpt(text))
    }
}

/// The way to an upstream, without a credential.
pub enum Reach {
    /// It is dialled at this URL.
    Endpoint(Uri),
    /// It dials in. The URL has the host and the path that are named within its tunnels.
    Tunnel(Uri),
}

impl Reach {
    /// The URL, without a credential.
    pub fn url(&self) -> &Uri {
        match self {
            Self::Endpoint(url) | Self::Tunnel(url) => url,
        }
    }

    /// Returns whether it dials in, because it cannot be dialled.
    pub fn is_tunnel(&self) -> bool {
        matches!(self, Self::Tunnel(_))
    }
}

/// The credential that an upstream is called with; empty where it needs none.
#[derive(Default)]
pub struct Credential {
    /// Headers of every request, marked sensitive.
    pub headers: HeaderMap,
    /// Parameters in the query of every request, encoded.
    pub query: Box<str>,
}

impl Credential {
    /// Returns a URL with the credential's parameters in its query.
    pub fn url(&self, url: &Uri) -> Result<Uri, http::Error> {
        if self.query.is_empty() {
            return Ok(url.clone());
        }
        let (path, query) = (url.path(), url.query().unwrap_or_default());
        let separator = if query.is_empty() { "" } else { "&" };
        let mut parts = url.clone().into_parts();
        parts.path_and_query = Some(format!("{path}?{query}{separator}{}", self.query).parse()?);
        Ok(Uri::from_parts(parts)?)
    }
}

/// The identity of connections: those of one upstream are not reused once it is reached in another way, or called with
/// another credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    /// The identity of the way to the upstream.
    pub reach: u64,
    /// The identity of the credential.
    pub credential: u64,
}

/// The kind of an upstream, with what only that kind has. Every `match` on it is a place that a new kind must know.
#[derive(Debug)]
pub enum UpstreamKind {
    /// A Model Context Protocol server.
    Mcp(McpUpstream),
}

/// The part of an upstream that only MCP servers have.
#[derive(Debug, Clone)]
pub struct McpUpstream {
    pub transport: McpTransport,
    /// The modern revisions that both sides speak, newest first; empty if it is not called in that era.
    pub modern: Vec<Revision>,
    /// The legacy revision that it negotiated with the control plane; `None` if it is not called in that era.
    pub legacy: Option<Revision>,
    /// True if its legacy side gives out session ids.
    pub legacy_sessionful: bool,
    /// Its capabilities in the modern era, as the JSON object it sent; `{}` where unknown.
    pub modern_capabilities: Box<str>,
    /// Its capabilities in the legacy era, as the JSON object it sent; `{}` where unknown.
    pub legacy_capabilities: Box<str>,
    pub generations: Generations,
}

/// The transport of messages to an MCP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum McpTransport {
    /// Each message is a request of its own.
    StreamableHttp,
    /// A stream of events is the session (2024-11-05).
    HttpSse,
    /// The connection is the session.
    WebSocket,
}

impl McpTransport {
    /// Returns whether a connection is the session, so that it carries many calls.
    pub fn is_channel(self) -> bool {
        match self {
            Self::StreamableHttp => false,
            Self::HttpSse | Self::WebSocket => true,
        }
    }
}

/// The generations of an upstream's lists. Each grows with every change that the upstream announces.
#[derive(Debug, Clone, Copy, Default)]
pub struct Generations {
    pub tools: i64,
    pub resources: i64,
    pub prompts: i64,
}

/// What the edge asks of an upstream of any kind.
impl Upstream {
    /// Returns whether it can be called in `era`.
    pub fn speaks(&self, era: Era) -> bool {
        match &self.kind {
            UpstreamKind::Mcp(mcp) => mcp.speaks(era),
        }
    }

    /// The era in which calls of clients of `era` reach it; `None` if it cannot be called at all.
    pub fn side_for(&self, era: Era) -> Option<Era> {
        match &self.kind {
            UpstreamKind::Mcp(mcp) => mcp.side_for(era),
        }
    }

    /// Returns its capabilities in an era: a JSON object.
    pub fn capabilities(&self, era: Era) -> &str {
        match &self.kind {
            UpstreamKind::Mcp(mcp) => mcp.capabilities(era),
        }
    }

    /// Returns whether it takes log levels.
    pub fn logs(&self) -> bool {
        match &self.kind {
            UpstreamKind::Mcp(mcp) => mcp.logs(),
        }
    }

    /// Returns whether it makes tasks of calls, as 2025-11-25 has them.
    pub fn makes_tasks(&self) -> bool {
        match &self.kind {
            UpstreamKind::Mcp(mcp) => mcp.makes_tasks(),
        }
    }

    /// Returns whether tasks of 2025-11-25 that it made can be cancelled.
    pub fn cancels_tasks(&self) -> bool {
        match &self.kind {
            UpstreamKind::Mcp(mcp) => mcp.cancels_tasks(),
        }
    }

    /// The generations of its lists.
    pub fn generations(&self) -> Generations {
        match &self.kind {
            UpstreamKind::Mcp(mcp) => mcp.generations,
        }
    }
}

impl McpUpstream {
    /// Returns whether it can be called in `era`.
    pub fn speaks(&self, era: Era) -> bool {
        match era {
            Era::Legacy => self.legacy.is_some(),
            Era::Modern => !self.modern.is_empty(),
        }
    }

    /// The era in which calls of clients of `era` reach it; `None` if it cannot be called at all. Their own where it has
    /// that, but not a legacy side without session ids, which cannot ask clients for anything.
    pub fn side_for(&self, era: Era) -> Option<Era> {
        let complete = self.speaks(era) && (era == Era::Modern || self.legacy_sessionful);
        let other = if era == Era::Modern { Era::Legacy } else { Era::Modern };
        if complete { Some(era) } else { [other, era].into_iter().find(|era| self.speaks(*era)) }
    }

    /// Returns whether its legacy side takes log levels.
    pub fn logs(&self) -> bool {
        self.legacy.is_some()
            && json::members(&self.legacy_capabilities, ["logging"]).is_ok_and(|[logging]| logging.is_some())
    }

    fn makes_tasks(&self) -> bool {
        self.legacy >= Some(Revision::V2025_11_25)
            && self.has_legacy_capability(&["tasks", "requests", "tools", "call"])
    }

    fn cancels_tasks(&self) -> bool {
        self.makes_tasks() && self.has_legacy_capability(&["tasks", "cancel"])
    }

    /// Returns whether its capabilities in the legacy era have a member at the end of this path.
    fn has_legacy_capability(&self, path: &[&str]) -> bool {
        let within = path.iter().try_fold(&*self.legacy_capabilities, |object, key| {
            json::members(object, [*key]).ok().and_then(|[member]| member)
        });
        within.is_some()
    }

    fn capabilities(&self, era: Era) -> &str {
        match era {
            Era::Legacy => &self.legacy_capabilities,
            Era::Modern => &self.modern_capabilities,
        }
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // People put secrets in the query of a URL.
        let url = self.reach.url();
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("uid", &self.uid)
            .field("authority", &url.authority().map(http::uri::Authority::as_str))
            .field("path", &url.path())
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}
