//! `Host`, `Origin` and headers that may occur once: which names a listener may be called by, and requests that two readers
//! would read differently.
//!
//! A page that a browser shows can call a listener on the same machine or network; what tells is the name in `Host`
//! (DNS rebinding) and the page in `Origin`. It must not know how a refusal is written.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, UPGRADE};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};

/// The reason that a request is refused before anything else of it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// `Host` is missing, malformed or not one of ours.
    #[error("this Host is not allowed")]
    Host,
    /// `Origin` is malformed or not allowed.
    #[error("this Origin is not allowed")]
    Origin,
    /// A header that may occur once occurs several times; a proxy may have read another one.
    #[error("the header {0} occurs more than once")]
    Repeated(&'static str),
    /// It asks for another protocol over HTTP/1.0, which has no such thing (RFC 9110, section 7.8).
    #[error("an upgrade requires HTTP/1.1")]
    Upgrade,
}

/// Headers that decide who is asked, who asks, and for what.
const ONCE: [(HeaderName, &str); 7] = [
    (HOST, "Host"),
    (ORIGIN, "Origin"),
    (AUTHORIZATION, "Authorization"),
    (CONTENT_TYPE, "Content-Type"),
    (HeaderName::from_static("mcp-session-id"), "Mcp-Session-Id"),
    (HeaderName::from_static("mcp-protocol-version"), "MCP-Protocol-Version"),
    (HeaderName::from_static("last-event-id"), "Last-Event-ID"),
];

/// The option of the hosts that a listener answers to.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct HostOptions {
    /// Value of `Host` to accept, with or without a port; repeatable. Default: the listening address and loopback names
    /// when listening on loopback, else every name. A control plane, and the operations port of an edge, accept IP
    /// addresses too.
    #[arg(
        long = "allowed-host",
        env = "TRUNKLINE_ALLOWED_HOSTS",
        value_name = "HOST[:PORT]",
        value_delimiter = ',',
        value_parser = host
    )]
    pub allowed_hosts: Vec<String>,
}

/// The hosts and origins that requests to a listener may name.
#[derive(Debug, Clone)]
pub struct AllowedNames {
    hosts: Vec<HostPort>,
    /// No host is named, and none has to be.
    any_host: bool,
    /// `*` is named.
    any_named: bool,
    ip_literals: bool,
    loopback: bool,
    origins: Vec<String>,
    any_origin: bool,
}

/// A host, with a port if it is for that port only.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HostPort {
    host: String,
    port: Option<u16>,
}

impl AllowedNames {
    /// Allows its own address, loopback names if it listens on loopback, and `hosts`; where that is not loopback and
    /// there are no `hosts`, every host. `*` allows every host. Origins are those of the allowed hosts, and `origins`.
    ///
    /// Values that [`host`] and [`origin`] refuse allow nothing.
    pub fn new(address: SocketAddr, hosts: &[String], origins: &[String]) -> Self {
        let loopback = address.ip().is_loopback();
        let any_host = hosts.is_empty() && !loopback;
        let any_named = hosts.iter().any(|host| host == "*");
        let mut named: Vec<HostPort> = hosts.iter().filter_map(|host| read(host)).collect();
        named.extend(read(&address.to_string()));
        let origins: Vec<String> = origins.iter().map(|origin| origin.to_ascii_lowercase()).collect();
        let any_origin = origins.iter().any(|origin| origin == "*");
        Self { hosts: named, any_host, any_named, ip_literals: false, loopback, origins, any_origin }
    }

    /// Allows every host that is an IP address too: no name was resolved to get here, so no name can have been rebound.
    /// Probes and scrapers use them.
    #[must_use]
    pub fn with_ip_literals(mut self) -> Self {
        self.ip_literals = true;
        self
    }

    /// Allows loopback names, and no host that is not named, also where it does not listen on loopback.
    #[must_use]
    pub fn only_named(mut self) -> Self {
        self.any_host = false;
        self.loopback = true;
        self
    }

    /// Refuses a request for a foreign host, from a foreign page, with two of what may occur once, or for an upgrade that
    /// its version does not have.
    ///
    /// # Errors
    /// The first reason found.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), NameError> {
        let headers = request.headers();
        // Mostly every header occurs once.
        if headers.len() > headers.keys_len()
            && let Some((_, shown)) =
                ONCE.iter().find(|(name, _)| headers.get_all(name).iter().nth(1).is_some())
        {
            return Err(NameError::Repeated(shown));
        }
        if request.version() < Version::HTTP_11 && headers.contains_key(UPGRADE) {
            return Err(NameError::Upgrade);
        }
        let authority = request.uri().authority();
        if !self.is_host_allowed(authority, headers, request.version()) {
            return Err(NameError::Host);
        }
        match headers.get(ORIGIN) {
            Some(origin) if !self.is_origin_allowed(origin) => Err(NameError::Origin),
            _ => Ok(()),
        }
    }

    fn is_host_allowed(&self, authority: Option<&Authority>, headers: &HeaderMap, version: Version) -> bool {
        let header = headers.get(HOST).map(HeaderValue::as_bytes);
        let host = match (authority.map(|authority| authority.as_str().as_bytes()), header) {
            // HTTP/2, or a request to a proxy. With both, there is one truth (RFC 9113, section 8.3.1).
            (Some(authority), Some(header)) if !authority.eq_ignore_ascii_case(header) => return false,
            (Some(host), _) | (None, Some(host)) => host,
            // No browser speaks HTTP/1.0; health checks do (RFC 9112, section 3.2).
            (None, None) => return version < Version::HTTP_11,
        };
        std::str::from_utf8(host)
            .ok()
            .and_then(read_borrowed)
            .is_some_and(|(host, port)| self.is_ours(host, port))
    }

    fn is_ours(&self, host: &str, port: Option<u16>) -> bool {
        let named = |ours: &HostPort| {
            ours.host.eq_ignore_ascii_case(host) && (ours.port.is_none() || ours.port == port)
        };
        self.any_host
            || self.any_named
            || (self.loopback && is_loopback(host))
            || (self.ip_literals && literal(host).is_some())
            || self.hosts.iter().any(named)
    }

    fn is_origin_allowed(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        if self.any_origin || self.origins.iter().any(|allowed| origin.eq_ignore_ascii_case(allowed)) {
            return true;
        }
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return false;
        }
        let Some((host, port)) = read_borrowed(authority) else { return false };
        // Another port of the same host is another origin (RFC 6454, section 4).
        (self.loopback && is_loopback(host))
            || self.hosts.iter().any(|ours| ours.host.eq_ignore_ascii_case(host) && ours.port == port)
    }
}

/// Reads a host to allow: `HOST`, `HOST:PORT` or `*`.
///
/// # Errors
/// What it must be, for the person who wrote it.
pub fn host(text: &str) -> Result<String, String> {
    if text == "*" || read(text).is_some() {
        return Ok(text.to_ascii_lowercase());
    }
    Err("must be a host such as edge.example.com, with or without a port, or *".to_owned())
}

/// Reads an origin to allow: `SCHEME://HOST`, with a port unless it is the default one, or `*`.
///
/// # Errors
/// What it must be, for the person who wrote it.
pub fn origin(text: &str) -> Result<String, String> {
    let trimmed = text.trim_end_matches('/');
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let parts = trimmed.split_once("://");
    if text == "*" || parts.is_some_and(|(scheme, rest)| is_scheme(scheme) && read(rest).is_some()) {
        return Ok(trimmed.to_ascii_lowercase());
    }
    Err("must be an origin such as https://app.example.com, or *".to_owned())
}

fn read(text: &str) -> Option<HostPort> {
    read_borrowed(text).map(|(host, port)| HostPort { host: host.to_owned(), port })
}

/// Reads `uri-host [ ":" port ]` (RFC 9110, section 7.2) and nothing else: no user, path, query or fragment. The
/// brackets of an IPv6 address stay.
fn read_borrowed(text: &str) -> Option<(&str, Option<u16>)> {
    let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (host, rest) = text.split_at(end);
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let valid = match host.strip_prefix('[') {
        Some(_) => literal(host).is_some(),
        None => (1..=253).contains(&host.len()) && host.bytes().all(is_name),
    };
    valid.then_some((host, port))
}

/// The address that a host is, if it is no name.
fn literal(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => host.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || literal(host).is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str, origin: Option<&str>) -> Request<()> {
        let request = Request::builder().uri("/servers/x/mcp").header(HOST, host);
        let request = match origin {
            Some(origin) => request.header(ORIGIN, origin),
            None => request,
        };
        request.body(()).unwrap()
    }

    fn names(hosts: &[&str], origins: &[&str], address: &str) -> AllowedNames {
        let hosts: Vec<_> = hosts.iter().map(|text| host(text).unwrap()).collect();
        let origins: Vec<_> = origins.iter().map(|text| origin(text).unwrap()).collect();
        AllowedNames::new(address.parse().unwrap(), &hosts, &origins)
    }

    #[test]
    fn loopback_takes_loopback_names_with_any_port_and_nothing_else() {
        let names = names(&[], &[], "127.0.0.1:4444");
        for (host, origin) in [
            ("localhost:1", None),
            ("[::1]:4444", Some("http://127.0.0.1:9")),
            ("LocalHost", Some("https://LOCALHOST:8443")),
            ("127.0.0.1:4444", Some("http://[::1]")),
        ] {
            assert_eq!(names.check(&request(host, origin)), Ok(()), "{host} {origin:?}");
        }
        for host in
            ["evil.com", "localhost.evil.com", "10.0.0.1", "localhost.", "[::2]", "127.0.0.1.evil.com"]
        {
            assert_eq!(names.check(&request(host, None)), Err(NameError::Host), "{host}");
        }
    }

    #[test]
    fn what_is_no_host_and_port_is_refused_even_where_every_host_is_allowed() {
        let open = names(&[], &[], "0.0.0.0:4444");
        for host in [
            "",
            " ",
            ":80",
            "localhost:",
            "localhost:x",
            "localhost:65536",
            "localhost:+80",
            "a b",
            "a/b",
            "a@b",
            "localhost:80@evil.example",
            "localhost#@evil.example",
            "a?b",
            "a,b",
            "[::1",
            "[::1]x",
            "[evil]",
            "[fe80::1%25eth0]",
            "ex\u{e4}mple",
            "a\\b",
            "%6cocalhost",
        ] {
            assert_eq!(open.check(&request(host, None)), Err(NameError::Host), "{host:?}");
        }
        assert_eq!(open.check(&request("under_score.example:80", None)), Ok(()));
    }

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port_and_nothing_else() {
        let names = names(&[], &[], "127.0.0.1:4444");
        for origin in [
            "null",
            "",
            "localhost",
            "http://evil.com",
            "http://localhost:80@evil.example",
            "http://localhost:1#@evil.example",
            "http://localhost/",
            "http://localhost?x",
            "http://user@localhost",
            "file://localhost",
            "chrome-extension://localhost",
            "ws://localhost",
            "http://localhost.evil.com",
            "http://localhost\\.evil.com",
            "//localhost",
            "http:localhost",
            "http://localhost http://evil.com",
        ] {
            assert_eq!(
                names.check(&request("localhost", Some(origin))),
                Err(NameError::Origin),
                "{origin:?}"
            );
        }
    }

    #[test]
    fn elsewhere_every_host_is_taken_unless_some_are_named_and_no_origin_unless_named() {
        let open = names(&[], &["https://app.example.com/", "vscode-webview://abc"], "0.0.0.0:4444");
        assert_eq!(open.check(&request("edge.example.com", None)), Ok(()));
        assert_eq!(open.check(&request("edge.example.com", Some("https://app.example.com"))), Ok(()));
        assert_eq!(open.check(&request("edge.example.com", Some("vscode-webview://abc"))), Ok(()));
        for origin in
            ["http://evil.com", "http://localhost", "https://edge.example.com", "http://app.example.com"]
        {
            let verdict = open.check(&request("edge.example.com", Some(origin)));
            assert_eq!(verdict, Err(NameError::Origin), "{origin}");
        }
        let closed = names(&["edge.example.com", "other.example:8443"], &[], "0.0.0.0:4444");
        for (host, origin, verdict) in [
            ("edge.example.com:8443", None, Ok(())),
            ("EDGE.example.com", Some("https://edge.example.com"), Ok(())),
            ("edge.example.com", Some("https://edge.example.com:444"), Err(NameError::Origin)),
            ("other.example:8443", Some("https://other.example:8443"), Ok(())),
            ("other.example", None, Err(NameError::Host)),
            ("third.example", None, Err(NameError::Host)),
            ("localhost", None, Err(NameError::Host)),
            ("10.0.0.1", None, Err(NameError::Host)),
        ] {
            assert_eq!(closed.check(&request(host, origin)), verdict, "{host} {origin:?}");
        }
        let probed = closed.with_ip_literals();
        for host in ["10.0.0.1:9090", "[fd00::1]:9090"] {
            assert_eq!(probed.check(&request(host, None)), Ok(()));
        }
        assert_eq!(probed.check(&request("third.example", None)), Err(NameError::Host));
    }

    #[test]
    fn only_named_hosts_and_loopback_are_taken_if_it_says_so() {
        let names = names(&["server.internal"], &[], "0.0.0.0:4444").only_named();
        for (host, verdict) in
            [("server.internal:1", Ok(())), ("localhost:1", Ok(())), ("other.internal", Err(NameError::Host))]
        {
            assert_eq!(names.check(&request(host, None)), verdict, "{host}");
        }
        let every = self::names(&["*"], &[], "127.0.0.1:4444").only_named();
        assert_eq!(every.check(&request("other.internal", None)), Ok(()));
    }

    #[test]
    fn two_of_what_may_occur_once_are_refused() {
        let open = names(&[], &["*"], "0.0.0.0:4444");
        for (name, shown) in ONCE {
            let twice =
                Request::builder().header(HOST, "a").header(&name, "a").header(&name, "a").body(()).unwrap();
            assert_eq!(open.check(&twice), Err(NameError::Repeated(shown)));
        }
    }

    #[test]
    fn the_authority_and_the_host_are_one() {
        let names = names(&[], &[], "127.0.0.1:4444");
        let both = |uri: &str, host: Option<&str>| {
            let request = Request::builder().uri(uri).version(Version::HTTP_2);
            let request = host.into_iter().fold(request, |request, host| request.header(HOST, host));
            names.check(&request.body(()).unwrap())
        };
        assert_eq!(both("http://localhost/x", None), Ok(()));
        assert_eq!(both("http://localhost/x", Some("LOCALHOST")), Ok(()));
        assert_eq!(both("http://localhost/x", Some("evil.com")), Err(NameError::Host));
        assert_eq!(both("http://evil.com/x", Some("localhost")), Err(NameError::Host));
        assert_eq!(both("/x", None), Err(NameError::Host));
        let old = Request::builder().uri("/healthz").version(Version::HTTP_10).body(()).unwrap();
        assert_eq!(names.check(&old), Ok(()));
    }

    #[test]
    fn values_that_could_allow_nothing_are_refused() {
        for text in ["", "a b", "http://a", "a/b", "a:b", "*.example.com"] {
            assert!(host(text).is_err(), "{text}");
        }
        for text in ["", "app.example.com", "https://", "https://a/b", "https://u@a", "1x://a"] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
