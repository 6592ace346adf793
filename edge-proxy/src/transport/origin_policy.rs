//! `Host` and `Origin`: the names that this edge answers to, and the pages that may call it (DNS rebinding, CORS).

use std::net::SocketAddr;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HOST, ORIGIN,
    VARY,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};

use super::Body;
use crate::config::published::PublishedNames;
use crate::error::Failure;

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
const DEFAULT_HEADERS: &str = "authorization, content-type, last-event-id, mcp-method, mcp-name, mcp-protocol-version, \
                               mcp-session-id, traceparent, tracestate, baggage";

/// The hosts and origins that requests may name.
#[derive(Debug, Clone)]
pub struct OriginPolicy {
    hosts: Vec<String>,
    any_host: bool,
    origins: Vec<String>,
    any_origin: bool,
    loopback: bool,
    prefix: String,
}

impl OriginPolicy {
    /// Reads the options, for an edge that listens on `address`.
    pub fn new(published: &PublishedNames, address: SocketAddr) -> Self {
        let loopback = address.ip().is_loopback();
        let mut hosts: Vec<String> =
            published.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        let any_host = hosts.iter().any(|host| host == "*") || (hosts.is_empty() && !loopback);
        hosts.push(address.to_string());
        let origins: Vec<String> = published
            .allowed_origins
            .iter()
            .map(|origin| origin.trim_end_matches('/').to_ascii_lowercase())
            .collect();
        let any_origin = origins.iter().any(|origin| origin == "*");
        let prefix = published.public_path_prefix.clone();
        Self { hosts, any_host, origins, any_origin, loopback, prefix }
    }

    /// A path of this edge as clients know it.
    pub fn public(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Refuses a request for a foreign host, or from a foreign page.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Failure> {
        if !self.any_host && !self.host_is_ours(request) {
            return Err(Failure::Host);
        }
        match request.headers().get(ORIGIN) {
            Some(origin) if !self.origin_is_allowed(origin) => Err(Failure::Origin),
            _ => Ok(()),
        }
    }

    fn host_is_ours<B>(&self, request: &Request<B>) -> bool {
        // HTTP/2 carries it as the authority of the URI.
        let host = match request.uri().authority() {
            Some(authority) => authority.as_str(),
            None => match request.headers().get(HOST).map(HeaderValue::to_str) {
                Some(Ok(host)) => host,
                _ => return false,
            },
        };
        let name = without_port(host);
        (self.loopback && LOOPBACK.iter().any(|ours| name.eq_ignore_ascii_case(ours)))
            || self
                .hosts
                .iter()
                .any(|ours| host.eq_ignore_ascii_case(ours) || name.eq_ignore_ascii_case(ours))
    }

    fn origin_is_allowed(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        if self.any_origin || self.origins.iter().any(|allowed| origin.eq_ignore_ascii_case(allowed)) {
            return true;
        }
        let Some((_, authority)) = origin.split_once("://") else { return false };
        let name = without_port(authority);
        (self.loopback && LOOPBACK.iter().any(|ours| name.eq_ignore_ascii_case(ours)))
            || self.hosts.iter().any(|ours| authority.eq_ignore_ascii_case(ours))
    }

    /// Makes the response to a preflight of an allowed page.
    pub fn preflight(&self, requested: &HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
        let wanted = requested.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let allowed = wanted.unwrap_or(HeaderValue::from_static(DEFAULT_HEADERS));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        response
    }

    /// Lets an allowed page read the response. To be called only for an `origin` that was checked.
    pub fn expose(origin: HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("mcp-session-id, www-authenticate"),
        );
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
}

/// Removes the port of a host; the brackets of an IPv6 address stay.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host[at..].contains(']') => &host[..at],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(policy: &OriginPolicy, host: &str, origin: Option<&str>) -> Result<(), Failure> {
        let mut request = Request::builder().uri("/servers/x/mcp").header(HOST, host);
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        policy.check(&request.body(()).unwrap())
    }

    fn policy(hosts: &[&str], origins: &[&str], address: &str) -> OriginPolicy {
        let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        OriginPolicy::new(
            &PublishedNames {
                allowed_hosts: owned(hosts),
                allowed_origins: owned(origins),
                ..PublishedNames::default()
            },
            address.parse().unwrap(),
        )
    }

    #[test]
    fn loopback_takes_loopback_names_with_any_port_and_nothing_else() {
        let policy = policy(&[], &[], "127.0.0.1:4444");
        for (host, origin) in
            [("localhost:1", None), ("[::1]:4444", Some("http://127.0.0.1:9")), ("LocalHost", None)]
        {
            assert_eq!(verdict(&policy, host, origin), Ok(()), "{host} {origin:?}");
        }
        assert_eq!(verdict(&policy, "evil.com", None), Err(Failure::Host));
        assert_eq!(verdict(&policy, "localhost.evil.com", None), Err(Failure::Host));
        assert_eq!(verdict(&policy, "localhost", Some("http://evil.com")), Err(Failure::Origin));
        assert_eq!(verdict(&policy, "localhost", Some("null")), Err(Failure::Origin));
    }

    #[test]
    fn elsewhere_every_host_is_taken_unless_some_are_named_and_no_origin_unless_named() {
        let open = policy(&[], &["https://app.example.com/"], "0.0.0.0:4444");
        assert_eq!(verdict(&open, "edge.example.com", None), Ok(()));
        assert_eq!(verdict(&open, "edge.example.com", Some("https://app.example.com")), Ok(()));
        assert_eq!(verdict(&open, "evil.com", Some("http://evil.com")), Err(Failure::Origin));
        assert_eq!(verdict(&open, "x", Some("http://localhost")), Err(Failure::Origin));
        let closed = policy(&["edge.example.com"], &[], "0.0.0.0:4444");
        assert_eq!(verdict(&closed, "edge.example.com:8443", None), Ok(()));
        assert_eq!(verdict(&closed, "other.example.com", None), Err(Failure::Host));
    }
}
