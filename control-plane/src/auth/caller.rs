//! The caller of an rpc, as the authentication layer found it.

use std::sync::Arc;

use super::credential::EdgeClaims;
use crate::rights::Rights;

/// The caller of an rpc. Handlers read it from the extensions of their request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A person, a service account or the holder of the administrator's bearer.
    Principal(Arc<Rights>),
    /// An edge that is enrolled.
    Edge(EdgeClaims),
    /// Proved nothing: calls what is open, or carries a join token in its request.
    Anonymous,
}

impl Caller {
    /// Reads the rights of who sent a request. Where the authentication layer found nobody, they are none.
    pub fn rights<T>(request: &tonic::Request<T>) -> Arc<Rights> {
        match request.extensions().get() {
            Some(Self::Principal(rights)) => rights.clone(),
            _ => Arc::default(),
        }
    }

    /// Reads the edge that sent a request, where the authentication layer found one.
    pub fn edge<T>(request: &tonic::Request<T>) -> Option<EdgeClaims> {
        match request.extensions().get() {
            Some(Self::Edge(claims)) => Some(claims.clone()),
            _ => None,
        }
    }
}
