//! The address of something that waits at one edge, as sealed handles carry it. It must not know what waits there.

/// The address of something that waits at one edge. Clients are given it within sealed handles only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaiterAddress {
    /// The id of the edge.
    pub edge: Box<str>,
    /// Its number at that edge. Random, so that a restarted edge has nothing under an old number.
    pub number: u64,
}
