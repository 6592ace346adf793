//! The session with a server of the edge, and its errors in words that say who called and what to do.

use std::time::Duration;

use http::{HeaderMap, header};
use mcp::client::{ClientError, ClientInfo, Endpoint, Reach, Session as Mcp, Transport};
use mcp::error::METHOD_NOT_FOUND;
use mcp::method::Method;
use mcp::revision::Revision;

use crate::answers::Answers;
use crate::client::caller::{Caller, CallerFlags, Wanted, callers};
use crate::commands::Invocation;
use crate::error::{Error, Exit, Result};
use crate::output;

/// Time for a response where none is given: tools take longer than the control plane does.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// The flags of every command that opens a session.
#[derive(Debug, Clone, clap::Args)]
pub struct SessionFlags {
    #[command(flatten)]
    caller: CallerFlags,
    /// Era of the protocol to speak
    #[arg(long, value_enum, default_value = "legacy")]
    era: CallEra,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CallEra {
    /// 2025-11-25 and earlier.
    Legacy,
    /// 2026-07-28 and later.
    Modern,
}

/// An open session, and who opened it.
pub struct EdgeSession {
    pub mcp: Mcp,
    pub revision: Revision,
    pub caller: Caller,
    pub server: String,
    edge: String,
}

impl EdgeSession {
    /// Opens a session with a server for whoever may have what is wanted.
    pub async fn open(
        invocation: &Invocation,
        server: &str,
        flags: &SessionFlags,
        wanted: Wanted<'_>,
    ) -> Result<Self> {
        let context = invocation.context()?;
        let server = server.strip_prefix("servers/").unwrap_or(server);
        let edge = context.edge_url()?.to_owned();
        let url = context.server_url(server)?;
        let url: url::Url =
            url.parse().map_err(|error| Error::usage(format!("invalid edge URL {url}: {error}")))?;
        let revision = match flags.era {
            CallEra::Legacy => Revision::LATEST_LEGACY,
            CallEra::Modern => Revision::LATEST,
        };
        let callers = callers(&context, invocation.context_file.path(), server, wanted, &flags.caller)?;
        let mut callers = callers.into_iter().peekable();
        loop {
            let Some(caller) = callers.next() else { return Err(Error::failure("nobody may call")) };
            let endpoint = Endpoint {
                url: url.clone(),
                headers: HeaderMap::from_iter([(header::AUTHORIZATION, caller.authorization()?)]),
                timeout: invocation.timeout.unwrap_or(DEFAULT_TIMEOUT),
                reach: Reach::System,
            };
            let info = ClientInfo { name: "mcpctl".into(), version: env!("CARGO_PKG_VERSION").into() };
            let opened = Mcp::open(&endpoint, Transport::StreamableHttp, revision, info).await;
            match (opened, callers.peek()) {
                (Ok(mcp), _) => {
                    let (server, edge) = (server.to_owned(), edge.clone());
                    return Ok(Self { mcp, revision, caller, server, edge });
                }
                (Err(ClientError::Unauthorized { status: 401, .. }), Some(next)) => {
                    output::eprint(format!("{caller} is not valid any more; trying {next}"));
                }
                (Err(error), _) => return Err(diagnosed(error, server, &edge, &caller).await),
            }
        }
    }

    /// Sends a request, and ends the session with its answer.
    pub async fn request(&self, method: &str, params: &str) -> Result<String> {
        let result = self.mcp.request(method, params).await;
        self.mcp.close().await;
        result.map_err(|error| self.explain(error))
    }

    /// Reads a list; it is empty where the server does not offer it.
    pub async fn list_if_offered(&self, method: Method, max_items: usize) -> Result<Vec<String>> {
        match self.mcp.list_all(method, max_items).await {
            Err(ClientError::Unsupported | ClientError::Rpc { code: METHOD_NOT_FOUND, .. }) => Ok(Vec::new()),
            listed => listed.map_err(|error| self.explain(error)),
        }
    }

    /// Turns an error of this session into one for people.
    pub fn explain(&self, error: ClientError) -> Error {
        explain(error, &self.server, &self.edge, &self.caller)
    }
}

/// The same where no session was opened: perhaps no edge is there.
async fn diagnosed(error: ClientError, server: &str, edge: &str, caller: &Caller) -> Error {
    use ClientError::{Rpc, Timeout, Unauthorized};
    let is_of_edge = matches!(error, Rpc { .. } | Timeout(_) | Unauthorized { .. });
    let found = if is_of_edge { None } else { Answers::at(edge).await.instead_of_an_edge() };
    match found {
        Some(what) => Error::new(
            Exit::Unavailable,
            format!("no edge is at {edge}: {what} (`mcpctl config set-context NAME --edge URL`)"),
        ),
        None => explain(error, server, edge, caller),
    }
}

/// Says what went wrong with whose bearer, and what to do.
fn explain(error: ClientError, server: &str, edge: &str, caller: &Caller) -> Error {
    match error {
        ClientError::Unauthorized { .. } => Error::new(
            Exit::Refused,
            format!(
                "the edge at {edge} rejected {caller}; a new token reaches every edge within a second; run \
                 `mcpctl get tokens` to see whether it is revoked or expired"
            ),
        ),
        ClientError::Unreachable(why) => Error::new(
            Exit::Unavailable,
            format!("the edge at {edge} is unreachable: {why}; check that it is running"),
        ),
        ClientError::Broken(why) => Error::new(
            Exit::Unavailable,
            format!("the connection to the edge at {edge} broke: {why}; call again"),
        ),
        ClientError::Timeout(after) => Error::new(
            Exit::Unavailable,
            format!("the edge at {edge} did not respond within {after:?}; retry, or raise --timeout"),
        ),
        ClientError::Http { status: 404, .. } | ClientError::Rpc { status: 404, .. } => {
            Error::not_found(format!(
                "server {server} does not exist or {caller} may not call it; check with `mcpctl get servers` \
                 and `mcpctl get tokens`"
            ))
        }
        other => Error::failure(format!("{other} (with {caller})")),
    }
}
