//! Other edges, as edges reach each other.

use std::collections::HashMap;

/// What a certificate is known by.
pub type Sha256 = [u8; 32];

/// The edges of the fleet, by id.
pub type EdgePeers = HashMap<Box<str>, EdgePeer>;

/// Another edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgePeer {
    /// Where it takes calls of other edges: `host:port`.
    pub address: Box<str>,
    /// The only certificate that is accepted from it.
    pub certificate: Sha256,
}
