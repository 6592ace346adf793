//! The edge's end of the stream: `machine` decides, `io` carries out. It must not know who reads the snapshot.

mod backoff;
mod io;
mod machine;

pub use io::{Client, Link, Publication};
pub use machine::{Action, Event, Machine};

#[cfg(test)]
mod tests;
