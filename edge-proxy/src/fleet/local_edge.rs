//! This edge, as its siblings use it.

use std::io;

use trunkline::edge::v1::SessionEvent;

use super::Fleet;
use crate::snapshot::Current;

/// This edge, as its siblings use it: what they send it and ask of it. The fleet must know no more of it.
pub trait LocalEdge: Send + Sync + 'static {
    /// The fleet, as this edge knows it.
    fn fleet(&self) -> &Fleet;

    /// The snapshot in force.
    fn current(&self) -> &Current;

    /// Applies an event of a session, or of a tunnel, that a sibling sent.
    fn apply(&self, event: SessionEvent);

    /// Returns the events that lead to the state of this edge, in parts of one message.
    fn all_events(&self) -> impl Iterator<Item = Vec<SessionEvent>> + Send + use<Self>;

    /// Whether a tunnel of this upstream is open here.
    fn has_tunnel(&self, upstream: &str) -> bool;

    /// Opens a stream through a tunnel of this upstream that is open here.
    fn open_tunnel_stream(&self, upstream: &str) -> impl Future<Output = io::Result<tunnel::Stream>> + Send;
}
