//! The edge's end of the stream: the crate `delta` decides, `io` carries out. It must not know who reads the snapshot.

mod backoff;
mod io;
mod missing;

use super::build::Builder;

pub use io::{Client, Link, Publication};
pub use missing::MissingLog;

/// The client half of the stream, which puts what it receives into a builder.
pub type Subscriber = delta::client::Subscriber<Builder>;

#[cfg(test)]
mod tests;
