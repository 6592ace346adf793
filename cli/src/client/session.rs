//! The session with a server of the edge, opened by whoever may.

use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;
use std::vec::IntoIter;

use http::{HeaderMap, HeaderValue, header};
use mcp::client::{ClientError, ClientInfo, Endpoint, Hearer, Reach, Session as Mcp, Transport};
use mcp::error::METHOD_NOT_FOUND;
use mcp::header::MirroredParam;
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use url::Url;

use crate::client::access::{callers_or_signed_in, signed_in};
use crate::client::caller::{BearerSource, Caller, CallerFlags, Wanted, near_server};
use crate::client::clock::Clock;
use crate::client::interruption::Interruption;
use crate::client::standing::or_nonexistent;
use crate::client::tries::{self, Tries};
use crate::client::trouble::{self, Repeating};
use crate::client::unmet::{self, Unmet};
use crate::commands::Invocation;
use crate::context::Context;
use crate::error::{Error, Result, tls};
use crate::output;

/// Time for a response where none is given: tools take longer than the control plane does.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// What this client can be asked: to fill in a form.
const CAPABILITIES: &str = r#"{"elicitation":{}}"#;

/// The flags of every command that opens a session.
#[derive(Debug, Clone, clap::Args)]
pub struct SessionFlags {
    #[command(flatten)]
    pub caller: CallerFlags,
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
    /// Whether there is a control plane to ask, too.
    is_managed: bool,
    pub(super) endpoint: Endpoint,
    pub(super) advice: TlsAdvice,
}

/// What to do where the two sides do not trust each other.
#[derive(Debug, Clone)]
pub struct TlsAdvice {
    /// So that the edge is trusted.
    pub(super) trust: String,
    /// So that the edge trusts this client.
    pub(super) certificate: String,
}

impl EdgeServer {
    /// Returns a server on the edge of a context, with the certificates that the context trusts.
    pub fn of(context: &Context, server: &str, timeout: Duration) -> Result<Self> {
        let name = server.strip_prefix("servers/").unwrap_or(server).to_owned();
        let (edge, url) = (context.edge_url()?.to_owned(), context.server_url(&name)?);
        let url: Url =
            url.parse().map_err(|error| Error::usage(format!("invalid edge URL {url}: {error}")))?;
        let reach = match url.scheme() {
            "https" => Reach::Trusting(tls::material_of(context)?),
            _ => Reach::System,
        };
        let endpoint = Endpoint { url, headers: HeaderMap::new(), timeout, reach };
        let is_managed = context.control.is_some();
        let advice =
            TlsAdvice { trust: context.advice_on_trust(), certificate: context.advice_on_certificate() };
        Ok(Self { name, edge, revision: Revision::LATEST_LEGACY, is_managed, endpoint, advice })
    }

    /// Whether edges that ask for a certificate are shown one.
    pub(super) fn presents_certificate(&self) -> bool {
        matches!(&self.endpoint.reach, Reach::Trusting(material) if material.identity.is_some())
    }

    /// Whether there is a control plane to ask, too.
    pub(super) fn is_managed(&self) -> bool {
        self.is_managed
    }

    /// What to do where the edge rejects a bearer.
    pub(super) fn advice_on_rejected(&self) -> &'static str {
        match self.is_managed {
            true => "run `mcpctl get tokens` to see whether it is revoked or expired",
            false => "ask for another bearer, and save it with `mcpctl config set-bearer`",
        }
    }

    /// What to do where the edge shows no such server.
    pub(super) fn advice_on_hidden(&self) -> &'static str {
        match self.is_managed {
            true => "check with `mcpctl get servers` and `mcpctl get tokens`",
            false => "ask whoever gave you the bearer for which servers it is",
        }
    }

    /// Opens a session for whoever has this authorization, or else a certificate, with what the client can be asked.
    pub async fn open(
        &self,
        authorization: Option<HeaderValue>,
        capabilities: &str,
    ) -> std::result::Result<Mcp, ClientError> {
        let mut endpoint = self.endpoint.clone();
        endpoint.headers.extend(authorization.map(|value| (header::AUTHORIZATION, value)));
        self.open_at(&endpoint, capabilities).await
    }

    /// Asks for a session without a bearer.
    pub(super) async fn open_as_nobody(&self) -> std::result::Result<Mcp, ClientError> {
        self.open_at(&self.endpoint, "{}").await
    }

    async fn open_at(
        &self,
        endpoint: &Endpoint,
        capabilities: &str,
    ) -> std::result::Result<Mcp, ClientError> {
        let info = ClientInfo { name: "mcpctl".into(), version: env!("CARGO_PKG_VERSION").into() };
        Mcp::open_with(endpoint, Transport::StreamableHttp, self.revision, info, capabilities).await
    }
}

/// Those who may call a server, best first: whoever it does not know is followed by the next one.
pub struct Opening<'w> {
    invocation: &'w Invocation,
    pub server: EdgeServer,
    pub wanted: Wanted<'w>,
    callers: Peekable<IntoIter<Caller>>,
    /// Those whom the server is hidden from.
    strangers: Vec<Caller>,
    /// Why the first was refused of those that were passed over for a condition of their own.
    unmet: Option<Error>,
    /// All who were tried, and why none of them was let in.
    tries: Tries,
    /// Whether nobody was named, so that whoever is signed in may call where no saved token may.
    is_free: bool,
    /// Whether that was tried.
    has_signed_in: bool,
    /// The server that was perhaps meant.
    hint: String,
    interruption: Interruption,
    is_open: bool,
}

impl<'w> Opening<'w> {
    /// Finds who may call.
    pub async fn new(
        invocation: &'w Invocation,
        server: &str,
        flags: &SessionFlags,
        wanted: Wanted<'w>,
    ) -> Result<Self> {
        let context = invocation.context()?;
        let mut server = EdgeServer::of(&context, server, invocation.timeout.unwrap_or(DEFAULT_TIMEOUT))?;
        if matches!(flags.era, CallEra::Modern) {
            server.revision = Revision::LATEST;
        }
        let found = callers_or_signed_in(invocation, &context, &server.name, wanted, &flags.caller).await;
        let callers = match found {
            Ok(callers) => callers.into_iter().peekable(),
            Err(error) => return Err(or_nonexistent(invocation, &server.name, error).await),
        };
        let hint = near_server(&context, &server.name);
        let interruption = Interruption::watch()?;
        Ok(Self {
            invocation,
            server,
            wanted,
            callers,
            strangers: Vec::new(),
            unmet: None,
            tries: Tries::default(),
            is_free: flags.caller.token.is_none() && flags.caller.bearer_file.is_none(),
            has_signed_in: false,
            hint,
            interruption,
            is_open: false,
        })
    }

    /// Opens a session for the next one who may call; `None` when there was one, and nobody is left.
    pub async fn next(&mut self) -> Result<Option<EdgeSession>> {
        while let Some(caller) = self.next_caller().await {
            let error = match self.server.open(caller.authorization()?, CAPABILITIES).await {
                Ok(mcp) => {
                    self.is_open = true;
                    let (server, interruption) = (self.server.clone(), self.interruption.clone());
                    let limit = self.invocation.timeout;
                    return Ok(Some(EdgeSession { mcp: Arc::new(mcp), caller, server, limit, interruption }));
                }
                Err(error) => error,
            };
            self.pass_over(error, caller).await?;
        }
        match (self.is_open, self.unmet.take()) {
            (true, _) => Ok(None),
            // What was said of one is not why the others may not.
            (false, Some(unmet)) => Err(self.tries.summed_up(&self.server.name, unmet)),
            (false, None) => Err(or_nonexistent(self.invocation, &self.server.name, self.hidden()).await),
        }
    }

    /// The next one who may call: where a condition has refused a saved token, at last whoever is signed in.
    async fn next_caller(&mut self) -> Option<Caller> {
        if let Some(caller) = self.callers.next() {
            return Some(caller);
        }
        self.unmet.as_ref()?;
        if std::mem::replace(&mut self.has_signed_in, true) {
            return None;
        }
        let context = self.invocation.context().ok()?;
        // Where that cannot be asked for, the refusal is what is told.
        let caller = signed_in(self.invocation, &context).await.ok().flatten()?;
        output::eprint(format!("{}; trying {caller}", self.tries.last()));
        Some(caller)
    }

    /// Goes on to the next one where a condition refuses a saved token that nobody named, or fails with that.
    fn pass_over_unmet(&mut self, unmet: &Unmet, caller: &Caller) -> Result {
        let told = self.server.refused(unmet, caller, unmet::AT_ALL);
        self.tries.note(caller, unmet.to_string());
        let is_saved = matches!(caller.source, BearerSource::Saved { .. });
        if !unmet.is_of_condition() || !is_saved || !self.is_free {
            let first = self.unmet.take().unwrap_or(told);
            return Err(self.tries.summed_up(&self.server.name, first));
        }
        if let Some(next) = self.callers.peek() {
            output::eprint(format!("{}: {unmet}; trying {}", caller.brief(), next.brief()));
        }
        self.unmet.get_or_insert(told);
        Ok(())
    }

    /// Goes on to the next one after an error that may be of this one alone, or fails with it.
    async fn pass_over(&mut self, error: ClientError, caller: Caller) -> Result {
        if let Some(unmet) = Unmet::of(&error) {
            return self.pass_over_unmet(&unmet, &caller);
        }
        let next = self.callers.peek();
        match error {
            ClientError::Rpc { status: 404, .. } => {
                self.tries.note(&caller, tries::HIDDEN);
                self.strangers.push(caller);
            }
            error if !trouble::is_rejection(&error) => {
                return Err(self.server.diagnosed(error, &caller).await);
            }
            // Where another was accepted, it is known of the server that it is hidden.
            error if next.is_none() && !self.is_open && self.strangers.is_empty() && self.unmet.is_none() => {
                return Err(self.server.diagnosed(error, &caller).await);
            }
            _ => {
                let next = next.map(|next| format!("; trying {next}")).unwrap_or_default();
                output::eprint(format!("{caller} is not valid any more{next}"));
                self.tries.note(&caller, tries::REJECTED);
            }
        }
        Ok(())
    }

    /// The error where the server is hidden from all of them, if there is one.
    fn hidden(&self) -> Error {
        let callers = self.strangers.iter().map(Caller::to_string).collect::<Vec<_>>().join(" nor ");
        let not = if self.strangers.len() > 1 { "neither " } else { "" };
        let may = if self.strangers.len() > 1 { "may" } else { "may not" };
        let advice = match self.hint.as_str() {
            "" => format!("; {}", self.server.advice_on_hidden()),
            hint => hint.to_owned(),
        };
        Error::not_found(format!(
            "server {} does not exist or {not}{callers} {may} call it{advice}",
            self.server.name
        ))
    }
}

/// A request in a session.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry<'q> {
    pub method: Method,
    /// A raw JSON object.
    pub params: &'q str,
    /// The arguments of a tool that modern servers want to see in headers.
    pub mirrored: &'q [MirroredParam],
    pub repeating: Repeating,
}

impl<'q> Inquiry<'q> {
    /// A request that only reads.
    pub fn reading(method: Method, params: &'q str) -> Self {
        Self { method, params, mirrored: &[], repeating: Repeating::Harmless }
    }
}

/// An open session, and who opened it.
pub struct EdgeSession {
    pub mcp: Arc<Mcp>,
    pub caller: Caller,
    pub server: EdgeServer,
    /// The time that a request may take, if one was given. Without it a server may take as long as it says something.
    limit: Option<Duration>,
    interruption: Interruption,
}

impl EdgeSession {
    /// Opens a session with a server for the first who may call it.
    pub async fn open(
        invocation: &Invocation,
        server: &str,
        flags: &SessionFlags,
        wanted: Wanted<'_>,
    ) -> Result<Self> {
        let mut opening = Opening::new(invocation, server, flags, wanted).await?;
        opening.next().await?.ok_or_else(|| opening.hidden())
    }

    /// Sends a request, and hears and answers what comes before its result. On a signal the server is told before this
    /// program ends.
    pub async fn ask(
        &self,
        inquiry: Inquiry<'_>,
        hearer: &mut dyn Hearer,
    ) -> std::result::Result<String, ClientError> {
        let Inquiry { method, params, mirrored, .. } = inquiry;
        let Some(limit) = self.limit else {
            let result = self.mcp.request_with_input(method.as_str(), params, mirrored, hearer);
            return self.interruption.during(&self.mcp, result).await;
        };
        let clock = Clock::new(limit);
        let mut hearer = clock.stopped_by(hearer);
        let result = self.mcp.request_with_input(method.as_str(), params, mirrored, &mut hearer);
        match clock.within(self.interruption.during(&self.mcp, result)).await {
            Some(result) => result,
            None => {
                self.mcp.cancel().await;
                Err(ClientError::Timeout(limit))
            }
        }
    }

    /// The same, and ends the session with that.
    pub async fn request(&self, inquiry: Inquiry<'_>, hearer: &mut dyn Hearer) -> Result<String> {
        let result = self.ask(inquiry, hearer).await;
        self.mcp.close().await;
        match result {
            Ok(result) => Ok(result),
            Err(error) => Err(self.told(error, &inquiry)),
        }
    }

    /// Whether servers cannot ask for input in the place of an answer.
    pub(super) fn is_legacy(&self) -> bool {
        self.server.revision.era() == Era::Legacy
    }

    /// Says what went wrong with a request.
    pub fn told(&self, error: ClientError, inquiry: &Inquiry<'_>) -> Error {
        let question = unmet::question(inquiry);
        self.server.told(error, &self.caller, inquiry.repeating, &question)
    }

    /// Reads a list; it is empty where the server does not offer it.
    pub async fn list_if_offered(&self, method: Method, max_items: usize) -> Result<Vec<String>> {
        match self.mcp.list_all(method, max_items).await {
            Err(ClientError::Unsupported | ClientError::Rpc { code: METHOD_NOT_FOUND, .. }) => Ok(Vec::new()),
            Ok(listed) => Ok(listed),
            Err(error) => Err(self.server.told(error, &self.caller, Repeating::Harmless, unmet::AT_ALL)),
        }
    }

    /// Turns an error of this session into one for people.
    pub fn explain(&self, error: ClientError) -> Error {
        self.server.explain(error, &self.caller, Repeating::Harmless)
    }
}
