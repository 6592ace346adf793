//! The client over real sockets: against rmcp, and against servers that break the protocol.
#![expect(clippy::unwrap_used, reason = "tests")]

mod channels;
mod connections;
mod faulty_servers;
mod questions;
mod reach;
mod rmcp_server;
mod scripted_server;
mod secrets;
mod tolerance;
mod transcripts;
