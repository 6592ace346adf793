//! The first event of HTTP+SSE (2024-11-05): where messages are to be posted.
//!
//! It must not know how they are. A server may not send us elsewhere than to itself: our credentials go along.

use url::{Host, Url, form_urlencoded};

/// The type of that event.
pub const EVENT: &[u8] = b"endpoint";
/// The longest one that is taken.
pub const MAX_BYTES: usize = 8 << 10;

/// An endpoint that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is no reference to anything.
    #[error("its endpoint is not a URL")]
    Malformed,
    /// It is longer than any honest one.
    #[error("its endpoint is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// It leads to another origin.
    #[error("its endpoint is at another origin, which is not followed")]
    CrossOrigin,
}

/// Whether a URL leads to this machine, which no proxy of the environment stands before.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The URL that the data of an `endpoint` event names, for a stream that was opened at `base`. Parameters of the stream's query go
/// along, unless the event names them: what some services want to see there, such as a key, they want with every request.
///
/// # Errors
/// When it is none, or leads away from the origin of `base`.
pub fn resolve(base: &Url, data: &[u8]) -> Result<Url, EndpointError> {
    if data.len() > MAX_BYTES {
        return Err(EndpointError::TooLong);
    }
    let text = std::str::from_utf8(data).map_err(|_| EndpointError::Malformed)?.trim();
    if text.is_empty() {
        return Err(EndpointError::Malformed);
    }
    let mut url = base.join(text).map_err(|_| EndpointError::Malformed)?;
    // An origin that is opaque equals nothing, itself included.
    if url.origin() != base.origin() || !url.username().is_empty() || url.password().is_some() {
        return Err(EndpointError::CrossOrigin);
    }
    url.set_fragment(None);
    let own: Vec<String> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    let is_named = |pair: &&str| {
        form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| own.contains(&name.into_owned()))
    };
    let along = base.query().into_iter().flat_map(|query| query.split('&')).filter(|pair| !is_named(pair));
    let query: Vec<&str> = url.query().into_iter().chain(along).filter(|part| !part.is_empty()).collect();
    let query = query.join("&");
    url.set_query((!query.is_empty()).then_some(&query));
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(data: &str) -> Result<String, EndpointError> {
        let base = Url::parse("https://host:8443/base/sse?key=k").unwrap();
        resolve(&base, data.as_bytes()).map(Into::into)
    }

    #[test]
    fn this_machine_is_told_from_others() {
        for (url, is_ours) in [
            ("http://localhost:1/", true),
            ("http://LOCALHOST/", true),
            ("http://127.9.0.1/", true),
            ("https://[::1]:8/", true),
            ("http://localhost.evil.example/", false),
            ("http://10.0.0.1/", false),
            ("data:,x", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), is_ours, "{url}");
        }
    }

    #[test]
    fn an_endpoint_is_resolved_as_a_reference() {
        for (data, url) in [
            ("/message?sessionId=1", "https://host:8443/message?sessionId=1&key=k"),
            ("message", "https://host:8443/base/message?key=k"),
            ("?s=1", "https://host:8443/base/sse?s=1&key=k"),
            ("?key=other&s=%2F", "https://host:8443/base/sse?key=other&s=%2F"),
            ("../up#part", "https://host:8443/up?key=k"),
            (" https://HOST:8443/x ", "https://host:8443/x?key=k"),
        ] {
            assert_eq!(at(data).as_deref(), Ok(url), "{data}");
        }
    }

    #[test]
    fn nobody_is_sent_elsewhere() {
        for data in [
            "http://host:8443/x",
            "https://host/x",
            "//other/x",
            "\\\\other\\x",
            "https://host:8443@other/x",
            "https://user@host:8443/x",
            "https://user:pw@host:8443/x",
            "file:///etc/passwd",
            "data:,x",
            "wss://host:8443/x",
        ] {
            assert_eq!(at(data), Err(EndpointError::CrossOrigin), "{data}");
        }
        assert_eq!(at(""), Err(EndpointError::Malformed));
        assert_eq!(at("https://[/"), Err(EndpointError::Malformed));
        assert_eq!(at(&"x".repeat(MAX_BYTES + 1)), Err(EndpointError::TooLong));
    }
}
