//! Builds upstreams, with the way to them, their credential and what they are.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use mcp::revision::{Era, Revision};
use trunkline::edge::v1 as wire;
use trunkline::edge::v1::StreamType;

use super::super::{
    ConnectionKey, Credential, Fingerprint, Generations, McpTransport, McpUpstream, Reach, Upstream,
    UpstreamKind,
};
use super::accepted::{Accepted, AcceptedResources};
use super::{ByName, InvalidResource, MissingReference, decode, definition};

const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Headers that the edge itself sets; a credential that set one would break the exchange.
const NOT_A_CREDENTIAL: [HeaderName; 8] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
];

/// The built upstreams, by name.
#[derive(Debug, Default)]
pub(super) struct UpstreamCache(ByName<Arc<Upstream>>);

impl UpstreamCache {
    /// Builds those that changed. Returns those that cannot be called because their secret is missing.
    pub(super) fn update(
        &mut self,
        accepted: &AcceptedResources,
        changed: &HashSet<Box<str>>,
    ) -> Vec<MissingReference> {
        for name in changed {
            self.0.remove(name);
        }
        let mut missing = Vec::new();
        for (name, resource) in accepted.of(StreamType::Upstream) {
            if self.0.contains_key(name) {
                continue;
            }
            let message: wire::Upstream = decode(resource);
            let secret = accepted.get(StreamType::Secret, name);
            if message.has_secret && secret.is_none() {
                missing.push(MissingReference { from: name.into(), to: None });
                continue;
            }
            if let Ok(upstream) = convert(&message, secret.filter(|_| message.has_secret)) {
                self.0.insert(name.into(), Arc::new(upstream));
            }
        }
        missing
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.0.get(name)
    }

    pub(super) fn by_id(&self) -> ByName<Arc<Upstream>> {
        self.0.values().map(|upstream| (upstream.id.clone(), Arc::clone(upstream))).collect()
    }
}

pub(super) fn convert(
    message: &wire::Upstream,
    secret: Option<&Accepted>,
) -> Result<Upstream, InvalidResource> {
    let kind = message.kind.as_ref().ok_or_else(unknown_kind)?;
    let url = endpoint(&message.url)?;
    let credential = credential(&url, secret)?;
    Ok(Upstream {
        name: message.name.as_str().into(),
        id: message.name.trim_start_matches("upstreams/").into(),
        uid: message.uid.as_str().into(),
        connection_key: connection_key(message, kind, secret),
        request_timeout: request_timeout(message)?,
        kind: match kind {
            wire::upstream::Kind::Mcp(mcp) => UpstreamKind::Mcp(mcp_upstream(message, mcp, &url)?),
        },
        reach: if message.tunnelled { Reach::Tunnel(url) } else { Reach::Endpoint(url) },
        credential,
    })
}

fn mcp_upstream(
    message: &wire::Upstream,
    mcp: &wire::McpUpstream,
    url: &Uri,
) -> Result<McpUpstream, InvalidResource> {
    let transport = transport(mcp, url);
    // HTTP+SSE is a transport of 2024-11-05, and of no later revision.
    let is_legacy_alone = transport == McpTransport::HttpSse;
    let modern = if is_legacy_alone { Vec::new() } else { modern_revisions(&mcp.modern_versions) };
    Ok(McpUpstream {
        transport,
        modern,
        legacy: legacy_revision(&mcp.legacy_version),
        legacy_sessionful: mcp.legacy_sessionful,
        modern_capabilities: capabilities("modern_capabilities_json", &mcp.modern_capabilities_json)?,
        legacy_capabilities: capabilities("legacy_capabilities_json", &mcp.legacy_capabilities_json)?,
        generations: Generations {
            tools: message.tools_generation,
            resources: message.resources_generation,
            prompts: message.prompts_generation,
        },
    })
}

fn unknown_kind() -> InvalidResource {
    InvalidResource::Field {
        field: "kind",
        problem: "is absent, or not known to this edge: edges are upgraded with their control plane"
            .to_owned(),
    }
}

fn endpoint(url: &str) -> Result<Uri, InvalidResource> {
    let bad = |problem: &str| InvalidResource::Field { field: "url", problem: problem.to_owned() };
    let uri: Uri = url.parse().map_err(|_| bad("is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https" | "ws" | "wss")) {
        return Err(bad("must have the scheme http, https, ws or wss"));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(bad("has no host"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(bad("contains a user name"));
    }
    Ok(uri)
}

/// Returns the transport that the control plane found; WebSocket shows in the scheme.
fn transport(mcp: &wire::McpUpstream, uri: &Uri) -> McpTransport {
    match mcp.transport() {
        _ if matches!(uri.scheme_str(), Some("ws" | "wss")) => McpTransport::WebSocket,
        wire::UpstreamTransport::Websocket => McpTransport::WebSocket,
        wire::UpstreamTransport::HttpSse => McpTransport::HttpSse,
        wire::UpstreamTransport::StreamableHttp | wire::UpstreamTransport::Unspecified => {
            McpTransport::StreamableHttp
        }
    }
}

/// Reads the credential of an upstream at this URL, if it has one.
fn credential(url: &Uri, secret: Option<&Accepted>) -> Result<Credential, InvalidResource> {
    let Some(accepted) = secret else { return Ok(Credential::default()) };
    let secret: wire::Secret = decode(accepted);
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for parameter in &secret.query_parameters {
        query.append_pair(&parameter.name, &parameter.value);
    }
    let credential =
        Credential { headers: credential_headers(&secret)?, query: query.finish().into_boxed_str() };
    let invalid =
        |_| InvalidResource::Field { field: "query_parameters", problem: "form an invalid URL".into() };
    credential.url(url).map_err(invalid)?;
    Ok(credential)
}

pub(super) fn credential_headers(secret: &wire::Secret) -> Result<HeaderMap, InvalidResource> {
    let mut headers = HeaderMap::with_capacity(secret.headers.len());
    for parameter in &secret.headers {
        let bad = |problem| InvalidResource::Field { field: "headers", problem };
        let name = HeaderName::try_from(&parameter.name)
            .map_err(|_| bad(format!("has {:?}, which is not a header name", parameter.name)))?;
        if NOT_A_CREDENTIAL.contains(&name) || name.as_str().starts_with("mcp-") {
            return Err(bad(format!("sets {name}, which is not a credential")));
        }
        let mut value = HeaderValue::try_from(&parameter.value)
            .map_err(|_| bad(format!("has a value for {name} that is not allowed in a header")))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

fn request_timeout(message: &wire::Upstream) -> Result<Duration, InvalidResource> {
    let Some(timeout) = message.request_timeout else { return Ok(DEFAULT_REQUEST_TIMEOUT) };
    let positive = Duration::try_from(timeout).ok().filter(|timeout| !timeout.is_zero());
    positive.ok_or(InvalidResource::Field { field: "request_timeout", problem: "is not positive".into() })
}

/// Returns the revisions that this edge speaks; later ones are for later edges.
fn modern_revisions(versions: &[String]) -> Vec<Revision> {
    let known = versions.iter().filter_map(|version| Revision::parse(version));
    let mut revisions: Vec<Revision> = known.filter(|revision| revision.era() == Era::Modern).collect();
    revisions.sort_unstable_by(|a, b| b.cmp(a));
    revisions.dedup();
    revisions
}

fn legacy_revision(version: &str) -> Option<Revision> {
    Revision::parse(version).filter(|revision| revision.era() == Era::Legacy)
}

fn capabilities(field: &'static str, json: &str) -> Result<Box<str>, InvalidResource> {
    if json.is_empty() {
        return Ok("{}".into());
    }
    definition::object(json).map_err(|problem| InvalidResource::Json { field, problem })?;
    Ok(json.into())
}

fn connection_key(
    message: &wire::Upstream,
    kind: &wire::upstream::Kind,
    secret: Option<&Accepted>,
) -> ConnectionKey {
    let transport = match kind {
        wire::upstream::Kind::Mcp(mcp) => mcp.transport,
    };
    let reach = Fingerprint::new()
        .part(message.uid.as_bytes())
        .part(message.url.as_bytes())
        .part(&transport.to_be_bytes())
        .part(&[u8::from(message.tunnelled)]);
    let secret_version = secret.map_or("", |accepted| &accepted.version);
    let credential =
        Fingerprint::new().part(message.credential_version.as_bytes()).part(secret_version.as_bytes());
    ConnectionKey { reach: reach.finish_short(), credential: credential.finish_short() }
}
