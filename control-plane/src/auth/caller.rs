//! The caller of an rpc, as the authentication layer found it.

use super::credential::EdgeClaims;

/// The caller of an rpc. Handlers read it from the extensions of their request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Holds the administrator's bearer.
    Administrator,
    /// An edge that is enrolled.
    Edge(EdgeClaims),
    /// Proved nothing: calls what is open, or carries a join token in its request.
    Anonymous,
}

impl Caller {
    /// Reads the edge that sent a request, where the authentication layer found one.
    pub fn edge<T>(request: &tonic::Request<T>) -> Option<EdgeClaims> {
        match request.extensions().get() {
            Some(Self::Edge(claims)) => Some(claims.clone()),
            _ => None,
        }
    }
}
