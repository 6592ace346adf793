//! The importer of MCP servers.

mod endpoint;
mod fetch;
mod probe;
mod watch;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use mcp::client::{ClientError, ClientInfo, Endpoint, ProbeError, Session, Transport};
use mcp::revision::Revision;
use trunkline::registry::v1::{EraPolicy, UpstreamState};

pub(super) use endpoint::endpoint;

use fetch::NotFetched;

use super::{Announcements, Failure, FetchedList, ImportSession, Importer, ListSelection, Lists, Probed};

/// Imports from an MCP server.
pub(super) struct McpImporter {
    endpoint: Endpoint,
    policy: EraPolicy,
}

/// A session of MCP, in the newest era that may be spoken.
struct McpSession {
    probed: Probed,
    endpoint: Endpoint,
    transport: Transport,
    session: Session,
    capabilities: String,
}

impl McpImporter {
    pub(super) fn new(endpoint: Endpoint, policy: EraPolicy) -> Self {
        Self { endpoint, policy }
    }

    async fn open(&self) -> Result<McpSession, Failure> {
        let (probed, found) = probe::probe_server(&self.endpoint, self.policy).await?;
        let modern = found.modern.filter(|_| self.policy != EraPolicy::Legacy);
        let legacy = found.legacy.filter(|_| self.policy != EraPolicy::Modern);
        let (revision, capabilities) = match (modern, legacy) {
            (Some(side), _) => {
                (side.versions.first().copied().unwrap_or(Revision::LATEST), side.capabilities)
            }
            (None, Some(side)) => (side.version, side.capabilities),
            (None, None) => return Err(incompatible("it speaks no era that its policy allows")),
        };
        let (endpoint, transport) = (self.endpoint.clone(), found.transport);
        let session = Session::open(&endpoint, transport, revision, info()).await.map_err(broken)?;
        Ok(McpSession { probed, endpoint, transport, session, capabilities })
    }
}

impl McpSession {
    /// Fetches the lists. Where the server has forgotten the session, once more in one of their own.
    async fn fetch(&self, selection: &ListSelection) -> Result<Lists, Failure> {
        match fetch::lists(&self.session, &self.capabilities, selection, false).await {
            Ok(lists) => return Ok(lists),
            Err(NotFetched::Failed(failure)) => return Err(failure),
            Err(NotFetched::SessionLost) => {}
        }
        let revision = self.session.revision();
        let session =
            Session::open(&self.endpoint, self.transport, revision, info()).await.map_err(broken)?;
        let lists = fetch::lists(&session, &self.capabilities, selection, true).await;
        session.close().await;
        lists.map_err(|error| match error {
            NotFetched::Failed(failure) => failure,
            NotFetched::SessionLost => broken(ClientError::SESSION_LOST),
        })
    }
}

impl Importer for McpImporter {
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn ImportSession>, Failure>> {
        async { Ok(Box::new(self.open().await?) as Box<dyn ImportSession>) }.boxed()
    }
}

impl ImportSession for McpSession {
    fn probed(&self) -> &Probed {
        &self.probed
    }
    fn fetch<'a>(&'a self, selection: &'a ListSelection) -> BoxFuture<'a, Result<Lists, Failure>> {
        self.fetch(selection).boxed()
    }
    fn watch(&self) -> BoxFuture<'_, Option<Announcements>> {
        watch::announcements(&self.session).boxed()
    }
    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move { self.session.close().await }.boxed()
    }
}

fn failed(error: &ProbeError) -> Failure {
    let state = match error {
        ProbeError::Unauthorized { .. } => UpstreamState::Unauthorized,
        ProbeError::NotMcp { .. } | ProbeError::Version { .. } | ProbeError::Protocol(_) => {
            UpstreamState::Incompatible
        }
        ProbeError::Unreachable(_) | ProbeError::Timeout(_) | ProbeError::Unavailable { .. } => {
            UpstreamState::Unreachable
        }
    };
    Failure::new(state, error.to_string())
}

/// Translates the failure of a session that worked before: the upstream is unreachable at the moment.
fn broken(error: ClientError) -> Failure {
    match error {
        ClientError::Broken(_) | ClientError::SessionLost { .. } => {
            Failure::new(UpstreamState::Unreachable, error.to_string())
        }
        error => failed(&error.into()),
    }
}

fn incompatible(reason: impl Into<String>) -> Failure {
    Failure::new(UpstreamState::Incompatible, reason)
}

fn info() -> ClientInfo {
    ClientInfo { name: "trunkline".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}
