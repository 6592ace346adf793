//! How an MCP server is reached: its URL, at addresses that are allowed, or its tunnels, with its credential in place.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use egress::CheckedResolver;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use mcp::client::{Dial, Endpoint, Reach as McpReach, Resolution, Resolve, ResolveError, Url};
use trunkline::registry::v1::credential::Kind as CredentialKind;
use trunkline::registry::v1::upstream::Reach;
use trunkline::registry::v1::{Credential, Upstream, UpstreamState};
use tunnel::Tunnels;

use super::{Failure, incompatible};
use crate::clock;
use crate::domain::upstream::WITHIN_TUNNEL;
use crate::importers::NO_TUNNEL;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// A probe does not wait as long as a call may.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The egress rule, as the client of MCP asks for it.
struct Checked(Arc<CheckedResolver>);

impl Resolve for Checked {
    fn resolve(&self, host: &str) -> Resolution {
        let (resolver, host) = (Arc::clone(&self.0), host.to_owned());
        // The client takes the port from the URL.
        Box::pin(async move { resolver.resolve(&host, 0).await.map_err(resolve_error) })
    }
}

fn resolve_error(error: egress::ResolveError) -> ResolveError {
    match error {
        egress::ResolveError::Failed(error) => ResolveError::Failed(error),
        refused @ egress::ResolveError::Refused { .. } => ResolveError::Refused(refused.to_string()),
    }
}

/// Builds the endpoint of an upstream, with its credential in place. `tunnels` lead to those that dial in, and `resolver`
/// finds the addresses of all others.
pub(in crate::importers) fn endpoint(
    upstream: &Upstream,
    credential: Option<&Credential>,
    tunnels: &Arc<Tunnels>,
    resolver: &Arc<CheckedResolver>,
) -> Result<Endpoint, Failure> {
    let (url, reach) = match &upstream.reach {
        Some(Reach::Http(http)) => {
            (http.url.as_str(), McpReach::Resolved(Arc::new(Checked(Arc::clone(resolver)))))
        }
        Some(Reach::Tunnel(_)) => (WITHIN_TUNNEL, McpReach::Dial(tunnel_dialer(tunnels, upstream)?)),
        None => return Err(incompatible("neither `http` nor `tunnel` is set")),
    };
    let mut url = Url::parse(url).map_err(|error| incompatible(format!("invalid URL: {error}")))?;
    let headers = credential_headers(credential, &mut url)
        .map_err(|_| incompatible("the credential contains characters that are not allowed in a header"))?;
    let timeout = upstream.request_timeout.as_ref().and_then(clock::duration).unwrap_or(DEFAULT_TIMEOUT);
    Ok(Endpoint { url, headers, timeout: timeout.min(PROBE_TIMEOUT), reach })
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
