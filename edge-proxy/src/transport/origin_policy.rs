//! What pages of other origins are told (CORS), and the names that the client port answers to.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use inbound::cors;
use inbound::names::AllowedNames;

use super::Body;
use crate::config::published::PublishedNames;
use crate::error::Failure;

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
        cors::preflight(requested, response.headers_mut());
        response
    }

    /// Lets an allowed page read the response. To be called only for an `origin` that was checked.
    pub fn expose(origin: HeaderValue, headers: &mut HeaderMap) {
        cors::expose(origin, headers);
    }
}
