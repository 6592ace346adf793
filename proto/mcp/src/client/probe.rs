//! Probes an endpoint: its transport, the eras that it speaks, and its capabilities in each.

use std::sync::Arc;

use super::endpoint::{ClientInfo, Endpoint};
use super::error::{ClientError, ProbeError, is_outage};
use super::handshake::{Proof, ServerFacts, discover, initialize};
use super::http::HttpClient;
use super::quirk_log::QuirkNote;
use super::rpc::RpcClient;
use crate::error::{HEADER_MISMATCH, METHOD_NOT_FOUND, MISSING_CAPABILITY, UNSUPPORTED_VERSION};
use crate::method::Method;
use crate::quirk::Quirk;
use crate::revision::Revision;

/// The description of a probed endpoint. At least one era is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its modern side.
    pub modern: Option<ModernSide>,
    /// Its legacy side.
    pub legacy: Option<LegacySide>,
    /// Its name; empty where it does not say.
    pub server_name: String,
    /// Its version; empty where it does not say.
    pub server_version: String,
    /// Its instructions.
    pub instructions: Option<String>,
    /// The transport of messages.
    pub transport: Transport,
}

/// The result of a probe, and its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The attempts, in order.
    pub attempts: Vec<Attempt>,
    /// The result.
    pub verdict: Result<Probe, ProbeError>,
    /// The quirks that were met, also where nothing worked.
    pub quirks: Vec<QuirkNote>,
}

/// One handshake that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Over which transport.
    pub transport: Transport,
    /// `server/discover` or `initialize`.
    pub handshake: Method,
    /// Its error, if it failed.
    pub error: Option<ClientError>,
    /// The quirks that were first met in it.
    pub quirks: Vec<QuirkNote>,
}

/// The modern side of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModernSide {
    /// The revisions that both sides speak, newest first.
    pub versions: Vec<Revision>,
    /// Raw JSON object.
    pub capabilities: String,
}

/// The legacy side of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacySide {
    /// The negotiated revision.
    pub version: Revision,
    /// Raw JSON object.
    pub capabilities: String,
    /// Whether it gives out session ids.
    pub sessionful: bool,
}

/// The transport of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One URL, POST and sometimes GET.
    StreamableHttp,
    /// A stream of events that says where to post (2024-11-05).
    HttpSse,
    /// Frames both ways.
    WebSocket,
}

impl Transport {
    /// Returns the transport with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::StreamableHttp, Self::HttpSse, Self::WebSocket]
            .into_iter()
            .find(|known| known.as_str() == name)
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StreamableHttp => "streamable-http",
            Self::HttpSse => "http+sse",
            Self::WebSocket => "websocket",
        }
    }
}

/// The result of `initialize`.
struct Legacy {
    facts: ServerFacts,
    transport: Transport,
    sessionful: bool,
}

struct Prober<'a> {
    http: Arc<HttpClient>,
    info: &'a ClientInfo,
    attempts: Vec<Attempt>,
}

/// Probes an endpoint. `server/discover` is tried first, because it runs nothing on servers that do not know it; then
/// `initialize`, because the response to the first does not tell whether the second works: filters and gateways before a
/// server refuse a method that they do not know. Where neither works, the URL may be that of an HTTP+SSE stream.
///
/// Where nothing works, the error is that of the handshake that came furthest.
pub async fn probe(endpoint: &Endpoint, info: &ClientInfo) -> Findings {
    let mut prober = match Prober::new(endpoint, info) {
        Ok(prober) => prober,
        Err(error) => return Findings::none(error),
    };
    let verdict = prober.run(transport_of(endpoint)).await;
    prober.findings(verdict)
}

/// Probes an endpoint in the modern era only.
pub async fn probe_modern(endpoint: &Endpoint, info: &ClientInfo) -> Findings {
    let mut prober = match Prober::new(endpoint, info) {
        Ok(prober) => prober,
        Err(error) => return Findings::none(error),
    };
    let transport = transport_of(endpoint);
    let found = prober.try_discover(transport).await;
    let verdict = found.map(|modern| combine(transport, Some(modern), None)).map_err(Into::into);
    prober.findings(verdict)
}

fn transport_of(endpoint: &Endpoint) -> Transport {
    if endpoint.is_websocket() { Transport::WebSocket } else { Transport::StreamableHttp }
}

impl Findings {
    fn none(error: ClientError) -> Self {
        Self { attempts: Vec::new(), verdict: Err(error.into()), quirks: Vec::new() }
    }
}

impl<'a> Prober<'a> {
    fn new(endpoint: &Endpoint, info: &'a ClientInfo) -> Result<Self, ClientError> {
        Ok(Self { http: Arc::new(HttpClient::new(endpoint, info)?), info, attempts: Vec::new() })
    }

    async fn run(&mut self, transport: Transport) -> Result<Probe, ProbeError> {
        let modern = self.try_discover(transport).await;
        if let Err(error @ ClientError::Unreachable(_)) = modern {
            return Err(error.into());
        }
        let mut legacy = self.try_initialize(transport).await;
        if let Err(refused) = &legacy
            && modern.is_err()
            && transport == Transport::StreamableHttp
            && suggests_sse(refused)
        {
            legacy = self.try_stream(refused.clone()).await;
        }
        match (modern, legacy) {
            (modern, Ok(legacy)) => Ok(combine(transport, modern.ok(), Some(legacy))),
            (Ok(modern), Err(error)) => {
                tracing::debug!(%error, "the server does not speak the legacy era");
                Ok(combine(transport, Some(modern), None))
            }
            (Err(modern), Err(legacy))
                if is_of_modern_server(&modern, &legacy) || tells_more(&modern, &legacy) =>
            {
                Err(modern.into())
            }
            (Err(_), Err(legacy)) => Err(legacy.into()),
        }
    }

    async fn try_discover(&mut self, transport: Transport) -> Result<ServerFacts, ClientError> {
        let handshake = async {
            let mut rpc = self.rpc(transport, Revision::LATEST).await?;
            let facts = discover(&mut rpc).await;
            rpc.delete().await;
            facts
        };
        let found = handshake.await;
        self.record(transport, Method::ServerDiscover, found.as_ref().err());
        found
    }

    /// On a connection of its own: some servers break it off when the first message is not theirs.
    async fn try_initialize(&mut self, transport: Transport) -> Result<Legacy, ClientError> {
        let found = match self.rpc(transport, Revision::LATEST_LEGACY).await {
            Ok(rpc) => initialized(rpc, transport).await,
            Err(error) => Err(error),
        };
        self.record(transport, Method::Initialize, found.as_ref().err());
        found
    }

    /// Tries the stream of HTTP+SSE where a POST was refused so. Without one, that stays the error.
    async fn try_stream(&mut self, refused: ClientError) -> Result<Legacy, ClientError> {
        let transport = Transport::HttpSse;
        let rpc = match self.rpc(transport, Revision::LATEST_LEGACY).await {
            Ok(rpc) => rpc,
            Err(error) => {
                self.record(transport, Method::Initialize, Some(&error));
                return Err(if says_more(&error, &refused) { error } else { refused });
            }
        };
        let found = initialized(rpc, transport).await;
        self.record(transport, Method::Initialize, found.as_ref().err());
        found
    }

    fn findings(self, verdict: Result<Probe, ProbeError>) -> Findings {
        let quirks = self.http.quirks.notes();
        // Whoever waits in vain is told what came in place of a response.
        let skipped =
            quirks.iter().find(|note| matches!(note.quirk, Quirk::ForeignEvents | Quirk::UnreadableMessages));
        let verdict = verdict.map_err(|error| match (error, skipped) {
            (ProbeError::Timeout(after), Some(QuirkNote { quirk, first })) => ProbeError::Protocol(format!(
                "no response within {after:?}; it {}; first: {first}",
                quirk.text()
            )),
            (error, _) => error,
        });
        Findings { attempts: self.attempts, verdict, quirks }
    }

    async fn rpc(&self, transport: Transport, revision: Revision) -> Result<RpcClient, ClientError> {
        RpcClient::open_over(transport, self.http.clone(), self.info.clone(), revision).await
    }

    fn record(&mut self, transport: Transport, handshake: Method, error: Option<&ClientError>) {
        let is_new = |note: &QuirkNote| {
            let before = self.attempts.iter().flat_map(|attempt| &attempt.quirks);
            before.clone().all(|known| known.quirk != note.quirk)
        };
        let quirks = self.http.quirks.notes().into_iter().filter(is_new).collect();
        self.attempts.push(Attempt { transport, handshake, error: error.cloned(), quirks });
    }
}

/// Performs `initialize`, and ends the session.
async fn initialized(mut rpc: RpcClient, transport: Transport) -> Result<Legacy, ClientError> {
    let facts = initialize(&mut rpc, Proof::Ping).await;
    let ended = rpc.delete().await;
    if !ended {
        rpc.http.quirks.note(Quirk::NoDelete, String::new);
    }
    let sessionful = rpc.session.id.is_some() || rpc.channel.is_some();
    Ok(Legacy { facts: facts?, transport, sessionful })
}

/// Whether the error of `server/discover` is the right one where `initialize` failed, too: the server is a modern one that
/// refuses us, or one that knows no `initialize` and is down or wants credentials.
fn is_of_modern_server(modern: &ClientError, legacy: &ClientError) -> bool {
    const MODERN: [i64; 3] = [HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION];
    let code = |error: &ClientError| match error {
        ClientError::Rpc { code, .. } => Some(*code),
        _ => None,
    };
    let knows_no_initialize =
        code(legacy).is_some_and(|code| code == METHOD_NOT_FOUND || MODERN.contains(&code));
    let tells_nothing =
        modern.status().is_some_and(|status| matches!(status, 401 | 403) || is_outage(status));
    code(modern).is_some_and(|code| MODERN.contains(&code)) || tells_nothing && knows_no_initialize
}

/// Whether the error of `server/discover` says more than that of `initialize`: a redirect that is not followed is about the URL
/// itself, and a page of a proxy is not about credentials.
fn tells_more(modern: &ClientError, legacy: &ClientError) -> bool {
    let is_redirect = |error: &ClientError| matches!(error, ClientError::Http { status: 300..400, .. });
    match modern {
        ClientError::Http { status: 300..400, .. } => {
            !is_redirect(legacy) && !matches!(legacy, ClientError::Unauthorized { .. })
        }
        ClientError::Unauthorized { .. } => {
            matches!(legacy, ClientError::Http { .. }) && !is_redirect(legacy)
        }
        _ => false,
    }
}

/// Whether a failed `initialize` leaves a stream of events worth asking for: any refusal of the POST does, and an answer that
/// is no MCP. The revisions 2025-03-26 to 2025-11-25 say so of 4xx or less, and servers refuse in more ways.
fn suggests_sse(error: &ClientError) -> bool {
    match error {
        ClientError::Rpc { status, code, .. } => {
            *status >= 400 && !matches!(*code, HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION)
        }
        ClientError::Http { .. }
        | ClientError::Unauthorized { .. }
        | ClientError::Protocol(_)
        | ClientError::EventStream => true,
        _ => false,
    }
}

/// Whether the error of a GET says more of an HTTP+SSE server than that of the POST before: it names an endpoint that cannot be
/// used, or wants credentials or leads elsewhere where a POST is not served at all.
fn says_more(get: &ClientError, post: &ClientError) -> bool {
    match get {
        ClientError::Protocol(_) => true,
        ClientError::Unauthorized { .. } => matches!(post.status(), Some(400 | 404 | 405)),
        ClientError::Http { status: 300..400, .. } => matches!(post.status(), Some(404 | 405 | 501)),
        _ => false,
    }
}

fn combine(transport: Transport, modern: Option<ServerFacts>, legacy: Option<Legacy>) -> Probe {
    let facts = modern.iter().chain(legacy.iter().map(|legacy| &legacy.facts));
    let mut named = facts.clone().filter(|facts| !facts.name.is_empty());
    let (server_name, server_version) =
        named.next().map(|facts| (facts.name.clone(), facts.version.clone())).unwrap_or_default();
    Probe {
        server_name,
        server_version,
        instructions: facts.clone().find_map(|facts| facts.instructions.clone()),
        transport: legacy.as_ref().map_or(transport, |legacy| legacy.transport),
        modern: modern.map(|facts| ModernSide { versions: facts.versions, capabilities: facts.capabilities }),
        legacy: legacy.and_then(|Legacy { facts, sessionful, .. }| {
            let version = *facts.versions.first()?;
            Some(LegacySide { version, capabilities: facts.capabilities, sessionful })
        }),
    }
}
