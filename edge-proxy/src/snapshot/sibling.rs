//! The edges of the fleet, as edges reach each other.

use std::collections::HashMap;

/// The fingerprint of a certificate.
pub type Sha256 = [u8; 32];

/// The edges of the fleet, by id.
pub type Siblings = HashMap<Box<str>, Sibling>;

/// An edge of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sibling {
    /// The address at which it takes calls of siblings: `host:port`.
    pub address: Box<str>,
    /// The only certificate that is accepted from it.
    pub certificate: Sha256,
}
