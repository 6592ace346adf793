//! HTTP as clients speak it: the head of a request. Streamable HTTP is one URL per server: POST for
//! messages, GET for a stream, DELETE for the end of a session. The paths of the other transports are read here too.
//!
//! It must not know eras, sessions or callers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, Request};
use hyper::upgrade::OnUpgrade;

use super::origin_policy::OriginPolicy;
use super::path::{self, Endpoint};
use crate::error::Failure;

/// A request whose head was accepted.
#[derive(Debug)]
pub struct HttpRequest {
    /// The headers.
    pub headers: HeaderMap,
    /// The verb.
    pub verb: Verb,
    /// The endpoint that it is addressed to.
    pub endpoint: Endpoint,
    server: String,
    upgrade: Option<OnUpgrade>,
}

/// The verb of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Sends a message.
    Post,
    /// Opens a stream or a connection.
    Get,
    /// Ends a session.
    Delete,
    /// Preflights a request of a browser.
    Options,
}

impl HttpRequest {
    /// Checks the head of a request: names, path, verb.
    pub fn open(origin_policy: &OriginPolicy, mut request: Request<()>) -> Result<Self, Failure> {
        origin_policy.check(&request)?;
        let (server, endpoint) = path::read(request.uri().path()).ok_or(Failure::Path)?;
        let server = server.to_owned();
        // Streamable HTTP ignores queries, so nothing in one is trusted there.
        if endpoint != Endpoint::Mcp && request.uri().query().is_some_and(path::holds_a_bearer) {
            return Err(Failure::BearerInUrl);
        }
        let verb = match *request.method() {
            Method::POST => Verb::Post,
            Method::GET => Verb::Get,
            Method::DELETE => Verb::Delete,
            Method::OPTIONS => Verb::Options,
            _ => return Err(Failure::Verb(endpoint.verbs())),
        };
        if !endpoint.takes(verb) {
            return Err(Failure::Verb(endpoint.verbs()));
        }
        let upgrade = (endpoint == Endpoint::WebSocket).then(|| hyper::upgrade::on(&mut request));
        let headers = request.into_parts().0.headers;
        Ok(Self { headers, verb, endpoint, server, upgrade })
    }

    /// The id of the server that the path names.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The connection itself, once it has changed its protocol.
    pub fn upgrade(&mut self) -> Option<OnUpgrade> {
        self.upgrade.take()
    }

    /// Takes the password of HTTP Basic for a bearer, where `is_private` says that nobody could read it on its way.
    pub fn take_basic(&mut self, is_private: impl FnOnce(&HeaderMap) -> bool) -> Result<(), Failure> {
        let value = self.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, encoded)) = value.and_then(|value| value.split_once(' ')) else { return Ok(()) };
        if !scheme.eq_ignore_ascii_case("basic") {
            return Ok(());
        }
        if !is_private(&self.headers) {
            return Err(Failure::BasicNotHere);
        }
        let bearer = password(encoded.trim()).unwrap_or_default();
        let bearer = HeaderValue::from_str(&format!("Bearer {bearer}"));
        let mut bearer = bearer.unwrap_or(HeaderValue::from_static("Bearer"));
        bearer.set_sensitive(true);
        self.headers.insert(AUTHORIZATION, bearer);
        Ok(())
    }

    /// The bearer of the `Authorization` header; empty if the header has another scheme.
    pub fn bearer(&self) -> Option<&str> {
        let value = self.headers.get(AUTHORIZATION)?.to_str().unwrap_or_default();
        let (scheme, bearer) = value.split_once(' ').unwrap_or((value, ""));
        Some(if scheme.eq_ignore_ascii_case("bearer") { bearer.trim() } else { "" })
    }

    /// A header that occurs once and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The password of HTTP Basic. Its user name says nothing.
fn password(encoded: &str) -> Option<String> {
    let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}
