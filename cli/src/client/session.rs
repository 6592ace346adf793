//! The session with a server of the edge, and its errors in words that say who called and what to do.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use mcp::client::{ClientError, ClientInfo, Endpoint, Hearer, Reach, Session as Mcp, Transport};
use mcp::error::METHOD_NOT_FOUND;
use mcp::header::MirroredParam;
use mcp::method::Method;
use mcp::revision::Revision;
use url::Url;

use crate::answers::Answers;
use crate::client::caller::{Caller, CallerFlags, Wanted, callers};
use crate::commands::Invocation;
use crate::context::Context;
use crate::error::{Error, Exit, Result, tls};
use crate::output;

/// Time for a response where none is given: tools take longer than the control plane does.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// What this client can be asked: to fill in a form.
const CAPABILITIES: &str = r#"{"elicitation":{}}"#;

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

/// A server as clients reach it through an edge.
#[derive(Debug, Clone)]
pub struct EdgeServer {
    /// Its name.
    pub name: String,
    /// The URL of the edge.
    pub edge: String,
    /// The revision to offer, which decides the era.
    pub revision: Revision,
    endpoint: Endpoint,
}

impl EdgeServer {
    /// Returns a server on the edge of a context, with the certificates that the context trusts.
    pub fn of(context: &Context, server: &str, timeout: Duration) -> Result<Self> {
        let name = server.strip_prefix("servers/").unwrap_or(server).to_owned();
        let (edge, url) = (context.edge_url()?.to_owned(), context.server_url(&name)?);
        let url: Url =
            url.parse().map_err(|error| Error::usage(format!("invalid edge URL {url}: {error}")))?;
        let reach = match context.ca_file.as_deref().filter(|_| url.scheme() == "https") {
            Some(path) => Reach::Trusting(tls::read_certificates(path)?.into()),
            None => Reach::System,
        };
        let endpoint = Endpoint { url, headers: HeaderMap::new(), timeout, reach };
        Ok(Self { name, edge, revision: Revision::LATEST_LEGACY, endpoint })
    }

    /// Opens a session for whoever has this authorization, with what the client can be asked.
    pub async fn open(
        &self,
        authorization: HeaderValue,
        capabilities: &str,
    ) -> std::result::Result<Mcp, ClientError> {
        let mut endpoint = self.endpoint.clone();
        endpoint.headers.insert(header::AUTHORIZATION, authorization);
        let info = ClientInfo { name: "mcpctl".into(), version: env!("CARGO_PKG_VERSION").into() };
        Mcp::open_with(&endpoint, Transport::StreamableHttp, self.revision, info, capabilities).await
    }

    /// Says why no session was opened: perhaps no edge is there.
    pub async fn diagnosed(&self, error: ClientError, caller: &Caller) -> Error {
        use ClientError::{Rpc, Timeout, Unauthorized};
        let is_of_edge = matches!(
            error,
            Rpc { .. } | Timeout(_) | Unauthorized { .. } | ClientError::Http { status: 300..400, .. }
        );
        let found = if is_of_edge { None } else { Answers::at(&self.edge).await.instead_of_an_edge() };
        match found {
            Some(what) => Error::new(
                Exit::Unavailable,
                format!("no edge is at {}: {what} (`mcpctl config set-context NAME --edge URL`)", self.edge),
            ),
            None => self.explain(error, caller),
        }
    }

    /// Says what went wrong with whose bearer, and what to do.
    fn explain(&self, error: ClientError, caller: &Caller) -> Error {
        let (server, edge) = (&self.name, &self.edge);
        let unavailable = |text: String| Error::new(Exit::Unavailable, text);
        match error {
            ClientError::Unauthorized { .. } => Error::new(
                Exit::Refused,
                format!(
                    "the edge at {edge} rejected {caller}; a new token reaches every edge within a second; run \
                     `mcpctl get tokens` to see whether it is revoked or expired"
                ),
            ),
            ClientError::Unreachable(why) => {
                let advice = match why.contains("not trusted here") {
                    true => "to trust it, run `mcpctl config set-context NAME --ca-file FILE`",
                    false => "check that it is running",
                };
                unavailable(format!("the edge at {edge} is unreachable: {why}; {advice}"))
            }
            ClientError::Broken(why) => unavailable(format!(
                "the connection to the edge at {edge} broke: {why}; it may have been done, so look before you ask again"
            )),
            ClientError::Timeout(after) => unavailable(format!(
                "the edge at {edge} did not respond within {after:?}; retry, or raise --timeout"
            )),
            ClientError::Http { status: status @ 300..400, excerpt } => {
                let excerpt = excerpt.split(": register").next().unwrap_or_default();
                unavailable(format!(
                    "the edge at {edge} answers HTTP {status} and {excerpt}; set the URL that it leads to with `mcpctl config \
                     set-context NAME --edge URL`"
                ))
            }
            ClientError::Http { status: 404, .. } | ClientError::Rpc { status: 404, .. } => {
                Error::not_found(format!(
                    "server {server} does not exist or {caller} may not call it; check with `mcpctl get servers` \
                     and `mcpctl get tokens`"
                ))
            }
            other => Error::failure(format!("{other} (with {caller})")),
        }
    }
}

/// An open session, and who opened it.
pub struct EdgeSession {
    pub mcp: Mcp,
    pub caller: Caller,
    pub server: EdgeServer,
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
        let mut server = EdgeServer::of(&context, server, invocation.timeout.unwrap_or(DEFAULT_TIMEOUT))?;
        if matches!(flags.era, CallEra::Modern) {
            server.revision = Revision::LATEST;
        }
        let file = invocation.context_file.path();
        let callers = callers(&context, file, &server.name, wanted, &flags.caller)?;
        let mut callers = callers.into_iter().peekable();
        loop {
            let Some(caller) = callers.next() else { return Err(Error::failure("nobody may call")) };
            let opened = server.open(caller.authorization()?, CAPABILITIES).await;
            match (opened, callers.peek()) {
                (Ok(mcp), _) => return Ok(Self { mcp, caller, server }),
                (Err(ClientError::Unauthorized { status: 401, .. }), Some(next)) => {
                    output::eprint(format!("{caller} is not valid any more; trying {next}"));
                }
                (Err(error), _) => return Err(server.diagnosed(error, &caller).await),
            }
        }
    }

    /// Sends a request, hears and answers what comes before its result, and ends the session with that.
    pub async fn request(
        &self,
        method: &str,
        params: &str,
        mirrored: &[MirroredParam],
        hearer: &mut dyn Hearer,
    ) -> Result<String> {
        let result = self.mcp.request_with_input(method, params, mirrored, hearer).await;
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
        self.server.explain(error, &self.caller)
    }
}
