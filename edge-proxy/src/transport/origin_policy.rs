//! What pages of other origins are told (CORS), and the names that the client port answers to.

use std::net::SocketAddr;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, VARY,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use inbound::names::AllowedNames;

use super::Body;
use crate::config::published::PublishedNames;
use crate::error::Failure;

const DEFAULT_HEADERS: &str = "authorization, content-type, last-event-id, mcp-method, mcp-name, mcp-protocol-version, \
                               mcp-session-id, traceparent, tracestate, baggage";

/// The hosts and origins that requests may name.
#[derive(Debug, Clone)]
pub struct OriginPolicy {
    names: AllowedNames,
    prefix: String,
}

impl OriginPolicy {
    /// Reads the options, for an edge that listens on `address`.
    pub fn new(published: &PublishedNames, address: SocketAddr) -> Self {
        let names = AllowedNames::new(address, &published.hosts.allowed_hosts, &published.allowed_origins);
        Self { names, prefix: published.public_path_prefix.clone() }
    }

    /// A path of this edge as clients know it.
    pub fn public(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Refuses a request for a foreign host, from a foreign page, or that two readers would read differently.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Failure> {
        Ok(self.names.check(request)?)
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
