//! What happens by itself: upstreams are asked for their catalogues, and kept current.
//!
//! It must not know gRPC services or edges.

mod handle;

pub use handle::{Handle, RefreshError};
