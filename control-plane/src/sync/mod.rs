//! What happens by itself: upstreams are asked for their catalogues and kept current, keys are replaced, and
//! replicas tell each other of changes.
//!
//! It must not know gRPC services or edges.

mod bus;
mod fetch;
mod handle;
mod import;
mod minder;
mod record;
mod upkeep;

pub use bus::Bus;
pub use handle::{Handle, RefreshError};
pub use minder::Minder;
pub use upkeep::Upkeep;
