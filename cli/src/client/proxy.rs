//! Proxies that the environment puts between here and an edge. Pure, but for the environment.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use mcp::endpoint::is_loopback;
use url::Url;

/// A proxy, and the variable that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeProxy {
    /// Without the credentials for it.
    url: String,
    variable: &'static str,
}

impl EdgeProxy {
    /// Returns the one that requests to a URL go through.
    pub fn before(url: &Url) -> Option<Self> {
        if is_loopback(url) {
            return None;
        }
        let found = Matcher::from_env().intercept(&url.as_str().parse().ok()?)?;
        let named = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let variable = variables(url.scheme()).into_iter().find(named)?;
        let authority = found.uri().authority()?.as_str();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        Some(Self { url: format!("{}://{host}", found.uri().scheme_str()?), variable })
    }
}

/// The variables that may name a proxy, in the order in which they count.
fn variables(scheme: &str) -> [&'static str; 4] {
    match scheme {
        "https" => ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
        _ => ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
    }
}

impl fmt::Display for EdgeProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {} ({})", self.url, self.variable)
    }
}
