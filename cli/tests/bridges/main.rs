//! The two bridges, over real sockets and with real children.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod connect;
mod expose;
#[cfg(target_os = "linux")]
mod orphans;
mod sse_websocket;
mod support;
