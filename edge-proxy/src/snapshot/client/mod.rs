//! The edge's end of the stream: `machine` decides, `rim` speaks.

mod backoff;
mod machine;
mod rim;

pub use machine::{Action, Event, Machine};
pub use rim::{Client, Link, Publication};

#[cfg(test)]
mod tests;
