//! An upstream as an edge calls it, with its credential compiled in.

use http::{HeaderMap, Uri};
use mcp::json;
use mcp::revision::{Era, Revision};

/// The transport of messages to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamTransport {
    /// Each message is a request of its own.
    StreamableHttp,
    /// A stream of events is the session (2024-11-05).
    HttpSse,
    /// The connection is the session.
    WebSocket,
}

/// An upstream, with its credential compiled in.
pub struct Upstream {
    /// `upstreams/{upstream}`.
    pub name: Box<str>,
    /// The id alone.
    pub id: Box<str>,
    /// The identity of this life of the upstream.
    pub uid: Box<str>,
    /// The transport of messages.
    pub transport: UpstreamTransport,
    /// True if it dials in, because it cannot be dialled.
    pub dials_in: bool,
    /// The endpoint, credential parameters in its query included.
    pub uri: Uri,
    /// Headers that carry the credential, marked sensitive.
    pub credential_headers: HeaderMap,
    /// The identity of URL and credential together: connections and sessions of another one are not reused.
    pub connection_key: u64,
    /// The longest wait for the first byte of an answer, and between two bytes after that.
    pub request_timeout: std::time::Duration,
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
    /// Grows with every change it announces of its tools.
    pub tools_generation: i64,
    /// Grows with every change it announces of its resources.
    pub resources_generation: i64,
    /// Grows with every change it announces of its prompts.
    pub prompts_generation: i64,
}

impl Upstream {
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

    /// Returns whether its legacy side makes tasks of calls, as 2025-11-25 has them.
    pub fn makes_tasks(&self) -> bool {
        self.legacy >= Some(Revision::V2025_11_25) && self.says(&["tasks", "requests", "tools", "call"])
    }

    /// Returns whether tasks that its legacy side made can be cancelled.
    pub fn cancels_tasks(&self) -> bool {
        self.makes_tasks() && self.says(&["tasks", "cancel"])
    }

    /// Returns whether its capabilities in the legacy era have this member, at the end of a path.
    fn says(&self, path: &[&str]) -> bool {
        let within = path.iter().try_fold(&*self.legacy_capabilities, |object, key| {
            json::members(object, [*key]).ok().and_then(|[member]| member)
        });
        within.is_some()
    }

    /// Returns its capabilities in an era, as the JSON object it sent.
    pub fn capabilities(&self, era: Era) -> &str {
        match era {
            Era::Legacy => &self.legacy_capabilities,
            Era::Modern => &self.modern_capabilities,
        }
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The query of the URI and the headers carry the credential.
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("uid", &self.uid)
            .field("authority", &self.uri.authority().map(http::uri::Authority::as_str))
            .field("path", &self.uri.path())
            .field("modern", &self.modern)
            .field("legacy", &self.legacy)
            .finish_non_exhaustive()
    }
}
