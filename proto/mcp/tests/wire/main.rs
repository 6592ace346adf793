//! The codecs and tables, from the outside.
#![expect(clippy::unwrap_used, reason = "tests")]

mod border;
mod entry;
mod envelope;
mod fuzz;
mod header;
mod json;
mod splice;
mod sse;
mod stdio;
mod strategies;
mod tables;
