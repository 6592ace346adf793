//! The incremental stream of resources (`discovery.v1`) as a state machine: an event in, actions out.
//!
//! `server` sends what differs from what its client holds. It does no IO and reads no clock, and it must not know
//! which types are streamed or what they are for: it is given a table of types and snapshots. The rules are in
//! docs/ARCHITECTURE.md ("The stream").

mod by_type;
pub mod server;
mod snapshot;

pub use by_type::ByType;
pub use snapshot::{Item, Items, Snapshot};
