//! Upstreams: what their author may write.

use std::net::IpAddr;

use prost_types::Duration;
use trunkline::registry::v1::upstream::{Kind as UpstreamKind, Reach};
use trunkline::registry::v1::{EraPolicy, McpUpstream, Upstream};
use url::{Host, Url};

use super::{KindRules, Surroundings, Violations, credential, meta, reflect, upstream_status};

const MAX_TITLE: usize = 128;
const MAX_DESCRIPTION: usize = 4_096;
const MAX_URL: usize = 2_048;
const REQUEST_TIMEOUT: Duration = Duration { seconds: 60, nanos: 0 };
const REFRESH_INTERVAL: Duration = Duration { seconds: 300, nanos: 0 };

/// The field of the URL.
const URL: &str = "http.url";

/// The URL that is requested within a tunnel: the endpoint of `mcpctl expose`.
pub const WITHIN_TUNNEL: &str = "http://localhost/mcp";

/// The annotation of an upstream that is a command which `mcpctl` runs: it ends with that, and does not come back by itself.
pub const EXPOSED: &str = "trunkline.dev/exposed";

/// Tells whether it is a command which `mcpctl` runs.
pub fn is_exposed(upstream: &Upstream) -> bool {
    upstream.meta.as_ref().is_some_and(|meta| meta.annotations.contains_key(EXPOSED))
}

/// Tells whether it dials in, because it cannot be dialled.
pub fn dials_in(upstream: &Upstream) -> bool {
    matches!(upstream.reach, Some(Reach::Tunnel(_)))
}

/// Returns the kind of an upstream.
pub fn kind(upstream: &Upstream) -> UpstreamKind {
    upstream.kind.unwrap_or(UpstreamKind::Mcp(McpUpstream::default()))
}

impl KindRules for Upstream {
    fn set_defaults(&mut self) {
        self.request_timeout.get_or_insert(REQUEST_TIMEOUT);
        self.refresh_interval.get_or_insert(REFRESH_INTERVAL);
        match self.kind.get_or_insert(UpstreamKind::Mcp(McpUpstream::default())) {
            UpstreamKind::Mcp(mcp) => {
                if mcp.era_policy == i32::from(EraPolicy::Unspecified) {
                    mcp.set_era_policy(EraPolicy::Auto);
                }
            }
        }
    }
    fn validate(&self, violations: &mut Violations) {
        meta::validate(self.meta.as_ref(), violations);
        violations.at_most("title", &self.title, MAX_TITLE);
        violations.at_most("description", &self.description, MAX_DESCRIPTION);
        match &self.reach {
            Some(Reach::Http(http)) => validate_url(&http.url, violations),
            Some(Reach::Tunnel(_)) => {}
            None => violations.add("http", "or `tunnel` is required"),
        }
        within("request_timeout", self.request_timeout.as_ref(), 1, 3_600, violations);
        within("refresh_interval", self.refresh_interval.as_ref(), 5, 86_400, violations);
        match &self.kind {
            Some(UpstreamKind::Mcp(mcp)) => {
                let policy = EraPolicy::try_from(mcp.era_policy);
                let known = reflect::choices("trunkline.registry.v1.EraPolicy");
                let text = format!("must be {known}, not {}", mcp.era_policy);
                violations.require(policy.is_ok(), "mcp.era_policy", text);
            }
            None => {}
        }
        if let Some(credential) = &self.credential {
            credential::validate(credential, violations);
        }
    }
    fn literal_address(&self) -> Option<(&'static str, IpAddr)> {
        let Some(Reach::Http(http)) = &self.reach else { return None };
        match Url::parse(&http.url).ok()?.host()? {
            Host::Ipv4(address) => Some((URL, address.into())),
            Host::Ipv6(address) => Some((URL, address.into())),
            Host::Domain(_) => None,
        }
    }
    fn secret(&mut self) -> Option<&mut Option<trunkline::registry::v1::Credential>> {
        Some(&mut self.credential)
    }
    fn credential(&self) -> Option<&trunkline::registry::v1::Credential> {
        self.credential.as_ref()
    }
    fn destination(&self) -> Option<String> {
        match self.reach.as_ref()? {
            // The origin (RFC 6454 §4): its scheme, its host and its port.
            Reach::Http(http) => Some(Url::parse(&http.url).ok()?.origin().ascii_serialization()),
            Reach::Tunnel(_) => Some("its tunnels".to_owned()),
        }
    }
    fn search(&self) -> Vec<&str> {
        let url = match &self.reach {
            Some(Reach::Http(http)) => http.url.as_str(),
            Some(Reach::Tunnel(_)) | None => "",
        };
        vec![&self.title, &self.description, url]
    }
    fn note_write(&mut self, before: &Self, now_us: i64) {
        if let Some(status) = upstream_status::after_write(before, self, now_us) {
            self.status = Some(status);
        }
    }
    const COMPUTED: &'static [&'static str] = &["status"];
    const SEES_CATALOGUE: bool = false;
    fn evaluate(&mut self, _: &Surroundings<'_>) {
        upstream_status::evaluate(self);
    }
}

fn validate_url(text: &str, violations: &mut Violations) {
    violations.at_most(URL, text, MAX_URL);
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return violations.add(URL, format!("is not an absolute URL: {error}")),
    };
    let known = matches!(url.scheme(), "http" | "https" | "ws" | "wss");
    violations.require(known, URL, "must have the scheme `http`, `https`, `ws` or `wss`");
    violations.require(url.has_host(), URL, "has no host");
    violations.require(
        url.username().is_empty() && url.password().is_none(),
        URL,
        "contains user information; put secrets into `credential`",
    );
    violations.require(url.fragment().is_none(), URL, "contains a fragment");
}

/// Both limits are in seconds.
fn within(field: &str, duration: Option<&Duration>, least: i64, most: i64, violations: &mut Violations) {
    let Some(duration) = duration else { return };
    let valid = (0..1_000_000_000).contains(&duration.nanos);
    let low = duration.seconds >= least;
    let high = duration.seconds < most || (duration.seconds == most && duration.nanos == 0);
    violations.require(valid && low && high, field, format!("must be between {least} s and {most} s"));
}
