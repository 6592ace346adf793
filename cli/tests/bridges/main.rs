//! The two bridges, over real sockets and with real children.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod connect;
mod expose;
mod lines;
#[cfg(target_os = "linux")]
mod orphans;
mod support;
