//! The client of upstreams: probes one, and fetches its catalogue.
//!
//! It must not know what is stored.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use mcp::client::{
    Attempt, ClientError, ClientInfo, Dial, Endpoint, Findings, Notices, Probe, ProbeError, Session, Url,
    probe, probe_modern,
};
use mcp::method::Method;
use mcp::revision::Revision;
use trunkline::registry::v1::credential::Kind as CredentialKind;
use trunkline::registry::v1::upstream::Reach;
use trunkline::registry::v1::{
    Credential, EraPolicy, LegacyEra, ModernEra, ProbeAttempt, ProbeReport, Upstream, UpstreamState,
};
use tunnel::Tunnels;

use super::import::Lists;
use crate::clock;
use crate::domain::upstream::WITHIN_TUNNEL;

/// The maximum number of entries of a list.
const MAX_ENTRIES: usize = 20_000;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// The reason why an upstream that dials in cannot be reached.
pub(super) const NO_TUNNEL: &str =
    "no tunnel is open; check that `mcpctl expose --connect` is running at the upstream";
/// A probe does not wait as long as a call may.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The reason why an upstream cannot be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) state: UpstreamState,
    pub(super) reason: String,
    /// The attempts, where any were made.
    pub(super) attempts: Vec<ProbeAttempt>,
}

impl Failure {
    /// Before anything was tried.
    pub(super) fn new(state: UpstreamState, reason: impl Into<String>) -> Self {
        Self { state, reason: reason.into(), attempts: Vec::new() }
    }
}

/// The result of a probe.
pub(super) struct Probed {
    pub(super) report: ProbeReport,
    pub(super) attempts: Vec<ProbeAttempt>,
    found: Probe,
}

/// A upstream_session with an upstream that was found to be usable.
pub(super) struct UpstreamSession {
    pub(super) report: ProbeReport,
    pub(super) attempts: Vec<ProbeAttempt>,
    session: Session,
    capabilities: String,
}

/// Builds the endpoint of an upstream, with its credential in place. `tunnels` lead to those that dial in.
pub(super) fn endpoint(
    upstream: &Upstream,
    credential: Option<&Credential>,
    tunnels: &Arc<Tunnels>,
) -> Result<Endpoint, Failure> {
    let (url, dial) = match &upstream.reach {
        Some(Reach::Http(http)) => (http.url.as_str(), None),
        Some(Reach::Tunnel(_)) => (WITHIN_TUNNEL, Some(tunnel_dialer(tunnels, upstream)?)),
        None => return Err(incompatible("neither `http` nor `tunnel` is set")),
    };
    let mut url = Url::parse(url).map_err(|error| incompatible(format!("invalid URL: {error}")))?;
    let headers = credential_headers(credential, &mut url)
        .map_err(|_| incompatible("the credential contains characters that are not allowed in a header"))?;
    let timeout = upstream.request_timeout.as_ref().and_then(clock::duration).unwrap_or(DEFAULT_TIMEOUT);
    Ok(Endpoint { url, headers, timeout: timeout.min(PROBE_TIMEOUT), dial })
}

/// Dials through a tunnel, where one is open.
fn tunnel_dialer(tunnels: &Arc<Tunnels>, upstream: &Upstream) -> Result<Dial, Failure> {
    let uid = upstream.meta.as_ref().map(|meta| meta.uid.clone()).unwrap_or_default();
    if !tunnels.has(&uid) {
        return Err(Failure::new(UpstreamState::Unreachable, NO_TUNNEL));
    }
    let tunnels = Arc::clone(tunnels);
    Ok(Dial::new(move || {
        let (tunnels, uid) = (Arc::clone(&tunnels), uid.clone());
        async move { tunnels.open(&uid).await }
    }))
}

fn credential_headers(credential: Option<&Credential>, url: &mut Url) -> Result<HeaderMap, http::Error> {
    let mut headers = HeaderMap::new();
    let secret = |text: &str| -> Result<HeaderValue, http::Error> {
        let mut value = HeaderValue::try_from(text)?;
        value.set_sensitive(true);
        Ok(value)
    };
    match credential.and_then(|credential| credential.kind.as_ref()) {
        Some(CredentialKind::Bearer(bearer)) => {
            headers.insert(header::AUTHORIZATION, secret(&format!("Bearer {}", bearer.token))?);
        }
        Some(CredentialKind::Basic(basic)) => {
            let pair = STANDARD.encode(format!("{}:{}", basic.username, basic.password));
            headers.insert(header::AUTHORIZATION, secret(&format!("Basic {pair}"))?);
        }
        Some(CredentialKind::Headers(pairs)) => {
            for (name, value) in &pairs.headers {
                headers.insert(HeaderName::try_from(name.as_str())?, secret(value)?);
            }
        }
        Some(CredentialKind::QueryParameter(query)) => {
            url.query_pairs_mut().append_pair(&query.parameter, &query.value);
        }
        None => {}
    }
    Ok(headers)
}

/// Finds out who an upstream is.
pub(super) async fn probe_upstream(endpoint: &Endpoint, policy: EraPolicy) -> Result<Probed, Failure> {
    let Findings { attempts, verdict } = match policy {
        EraPolicy::Modern => probe_modern(endpoint, &info()).await,
        _ => probe(endpoint, &info()).await,
    };
    let attempts: Vec<ProbeAttempt> = attempts.iter().map(attempt).collect();
    let found = verdict.map_err(|error| failed(&error));
    match found.and_then(|found| check_era(&found, policy).map(|()| found)) {
        Ok(found) => Ok(Probed { report: report(&found), attempts, found }),
        Err(failure) => Err(Failure { attempts, ..failure }),
    }
}

/// Probes an upstream and begins a upstream_session, in the newest era that may be spoken.
pub(super) async fn open_session(endpoint: &Endpoint, policy: EraPolicy) -> Result<UpstreamSession, Failure> {
    let Probed { report, attempts, found } = probe_upstream(endpoint, policy).await?;
    let modern = found.modern.filter(|_| policy != EraPolicy::Legacy);
    let legacy = found.legacy.filter(|_| policy != EraPolicy::Modern);
    let (revision, capabilities) = match (&modern, &legacy) {
        (Some(side), _) => {
            (side.versions.first().copied().unwrap_or(Revision::LATEST), side.capabilities.clone())
        }
        (None, Some(side)) => (side.version, side.capabilities.clone()),
        (None, None) => return Err(incompatible("it speaks no era that its policy allows")),
    };
    let session = Session::open(endpoint, found.transport, revision, info()).await.map_err(broken)?;
    Ok(UpstreamSession { report, attempts, session, capabilities })
}

impl UpstreamSession {
    /// Listens for announced changes. `None` where the upstream announces none.
    pub(super) async fn listen(&self) -> Option<Notices> {
        match self.session.listen().await {
            Ok(notices) => Some(notices),
            Err(error) => {
                tracing::debug!(%error, "cannot subscribe to the changes of an upstream");
                None
            }
        }
    }

    /// Everything that it offers, over all pages.
    pub(super) async fn lists(&self) -> Result<Lists, Failure> {
        Ok(Lists {
            tools: self.list(Method::ToolsList, "tools").await?,
            resources: self.list(Method::ResourcesList, "resources").await?,
            templates: self.list(Method::ResourcesTemplatesList, "resources").await?,
            prompts: self.list(Method::PromptsList, "prompts").await?,
        })
    }

    /// Ends it, as well as that goes.
    pub(super) async fn close(self) {
        self.session.close().await;
    }

    async fn list(&self, method: Method, capability: &str) -> Result<Vec<String>, Failure> {
        if !has(&self.capabilities, capability) {
            return Ok(Vec::new());
        }
        match self.session.list_all(method, MAX_ENTRIES).await {
            Ok(entries) => Ok(entries),
            // Many servers have resources and know nothing of templates, and some declare more than they have.
            Err(ClientError::Rpc { code: mcp::error::METHOD_NOT_FOUND, .. }) => Ok(Vec::new()),
            Err(error) => {
                let Failure { state, reason, .. } = broken(error);
                Err(Failure::new(state, format!("{}: {reason}", method.as_str())))
            }
        }
    }
}

fn has(capabilities: &str, capability: &str) -> bool {
    matches!(mcp::json::members(capabilities, [capability]), Ok([Some(raw)]) if raw != "null")
}

fn check_era(found: &Probe, policy: EraPolicy) -> Result<(), Failure> {
    match policy {
        EraPolicy::Modern if found.modern.is_none() => {
            Err(incompatible("it does not speak the modern era, which the era policy requires"))
        }
        EraPolicy::Legacy if found.legacy.is_none() => {
            Err(incompatible("it does not speak the legacy era, which the era policy requires"))
        }
        _ => Ok(()),
    }
}

fn report(found: &Probe) -> ProbeReport {
    ProbeReport {
        transport: found.transport.as_str().to_owned(),
        quirks: found.quirks.iter().map(|quirk| quirk.as_str().to_owned()).collect(),
        modern: found.modern.as_ref().map(|side| ModernEra {
            versions: side.versions.iter().map(|version| version.as_str().to_owned()).collect(),
            capabilities_json: side.capabilities.clone(),
        }),
        legacy: found.legacy.as_ref().map(|side| LegacyEra {
            version: side.version.as_str().to_owned(),
            capabilities_json: side.capabilities.clone(),
            sessionful: side.sessionful,
        }),
        server_name: found.server_name.clone(),
        server_version: found.server_version.clone(),
        instructions: found.instructions.clone().unwrap_or_default(),
        probe_time: Some(clock::timestamp(clock::now_us())),
    }
}

fn attempt(tried: &Attempt) -> ProbeAttempt {
    ProbeAttempt {
        transport: tried.transport.as_str().to_owned(),
        handshake: tried.handshake.as_str().to_owned(),
        error: tried.error.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn failed(error: &ProbeError) -> Failure {
    let state = match error {
        ProbeError::Unauthorized { .. } => UpstreamState::Unauthorized,
        ProbeError::NotMcp { .. } | ProbeError::Protocol(_) => UpstreamState::Incompatible,
        ProbeError::Unreachable(_) | ProbeError::Timeout(_) | ProbeError::Unavailable { .. } => {
            UpstreamState::Unreachable
        }
    };
    Failure::new(state, error.to_string())
}

/// Translates the failure of a session that worked before: the upstream is unreachable at the moment.
fn broken(error: ClientError) -> Failure {
    match error {
        ClientError::Broken(_) | ClientError::SessionLost => {
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
