//! The address of a session, as it is sealed into what clients are given: its id, and the cookies by which a balancer before the
//! upstream finds the node that has it, with the host that set them: an upstream may be moved. With it, any edge sends requests in
//! the session.
//!
//! It must not know what it is sealed into.

use std::borrow::Cow;

use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderValue};
use mcp::border::cookies::beside;
use mcp::header::{PROTOCOL_VERSION, SESSION_ID};

use super::upstream_session::UpstreamSession;

/// Stands between the id, the host and the cookies: none can contain it.
const SEPARATOR: u8 = b'\n';

impl UpstreamSession {
    /// Its address; empty where it has neither an id nor cookies. A connection has none.
    pub(in crate::upstream) fn address(&self) -> Cow<'_, [u8]> {
        let id = self.headers().and_then(|headers| headers.get(SESSION_ID));
        let id = id.map_or(b"".as_slice(), HeaderValue::as_bytes);
        match self.cookies() {
            None => Cow::Borrowed(id),
            Some(cookies) => Cow::Owned([id, self.host(), cookies.as_bytes()].join(&SEPARATOR)),
        }
    }

    fn host(&self) -> &[u8] {
        self.headers().and_then(|headers| headers.get(HOST)).map_or(b"", HeaderValue::as_bytes)
    }

    /// Its revision, as requests name it; empty where they do not.
    pub(in crate::upstream) fn version(&self) -> &[u8] {
        let version = self.headers().and_then(|headers| headers.get(PROTOCOL_VERSION));
        version.map_or(b"", HeaderValue::as_bytes)
    }

    /// Joins the session at an address, which may have been opened by another edge, with the `headers` that every request to its
    /// upstream carries. `None` where that is no address, or its cookies are of another host.
    pub(in crate::upstream) fn at(mut headers: HeaderMap, address: &[u8], version: &[u8]) -> Option<Self> {
        headers.insert(PROTOCOL_VERSION, HeaderValue::from_bytes(version).ok()?);
        let (id, host, cookies) = split(address);
        let is_there = headers.get(HOST).map_or(b"".as_slice(), HeaderValue::as_bytes) == host;
        if cookies.is_some() && !is_there {
            return None;
        }
        if !id.is_empty() {
            headers.insert(SESSION_ID, HeaderValue::from_bytes(id).ok()?);
        }
        let cookies = cookies.map(HeaderValue::from_bytes).transpose().ok()?;
        if let Some(cookies) = &cookies {
            headers.insert(COOKIE, beside(headers.get(COOKIE), cookies)?);
        }
        Some(Self::joined(headers, cookies))
    }
}

/// Whether an address has the id of a session.
pub(in crate::upstream) fn has_id(address: &[u8]) -> bool {
    !split(address).0.is_empty()
}

/// Its id, and the host of its cookies with them.
fn split(address: &[u8]) -> (&[u8], &[u8], Option<&[u8]>) {
    let mut parts = address.splitn(3, |byte| *byte == SEPARATOR);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base(cookie: Option<&str>) -> HeaderMap {
        cookie.map(|cookie| (COOKIE, cookie.parse().unwrap())).into_iter().collect()
    }

    #[test]
    fn what_has_no_cookies_is_its_id_alone() {
        for id in ["", "up-1"] {
            let session = UpstreamSession::at(HeaderMap::new(), id.as_bytes(), b"2025-11-25").unwrap();
            assert_eq!((&*session.address(), session.version()), (id.as_bytes(), b"2025-11-25".as_slice()));
            assert_eq!(has_id(id.as_bytes()), !id.is_empty());
        }
        assert!(!has_id(b"\nhost\nnode=a"));
        assert!(UpstreamSession::at(HeaderMap::new(), b"up\0", b"v").is_none());
    }

    proptest! {
        /// The credential's own cookie is not part of it, and goes along with it.
        #[test]
        fn a_session_is_joined_at_its_address(id in "[!-~]{0,40}", cookies in "[!-~]{1,40}", own in proptest::option::of("[!-~]{1,40}")) {
            let address = [id.as_bytes(), b"a.example:1", cookies.as_bytes()].join(&b'\n');
            let at = |host: &'static str| {
                let mut headers = base(own.as_deref());
                headers.insert(HOST, HeaderValue::from_static(host));
                UpstreamSession::at(headers, &address, b"v")
            };
            // An upstream that was moved does not get the cookies of where it was.
            prop_assert!(at("a.example:2").is_none());
            let session = at("a.example:1").unwrap();
            prop_assert_eq!(&*session.address(), address.as_slice());
            let sent = session.headers().unwrap().get(COOKIE).unwrap();
            let expected = own.iter().chain([&cookies]).map(String::as_str).collect::<Vec<_>>().join("; ");
            prop_assert_eq!(sent.as_bytes(), expected.as_bytes());
            prop_assert!(sent.is_sensitive());
        }

        #[test]
        fn junk_does_not_panic(address: Vec<u8>, version: Vec<u8>) {
            let _: Option<UpstreamSession> = UpstreamSession::at(HeaderMap::new(), &address, &version);
        }
    }
}
