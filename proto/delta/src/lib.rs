//! Both halves of the incremental stream of resources (`discovery.v1`) as state machines: an event in, actions out.
//!
//! `server` sends what differs from what its client holds; `client` puts it into a sink and acknowledges it. Neither does
//! IO or reads a clock, and neither must know which types are streamed or what they are for: that is for the table of
//! types, the snapshots and the sink that they are given. The rules are in docs/ARCHITECTURE.md ("The stream").

mod by_type;
pub mod client;
pub mod server;
mod snapshot;

/// The largest request of a client, encoded, in bytes. `client` keeps within it; whoever carries the stream to `server`
/// refuses larger ones.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;

pub use by_type::ByType;
pub use snapshot::{Item, Items, MAX_MESSAGE_BYTES, MAX_RESOURCE_BYTES, Snapshot};
