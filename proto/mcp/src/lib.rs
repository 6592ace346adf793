//! The Model Context Protocol on the wire, all revisions.
//!
//! It knows nothing of Trunkline: no scopes, no registry, no snapshot.

pub mod header;
pub mod revision;
