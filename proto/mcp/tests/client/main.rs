//! The client over real sockets: against rmcp, and against servers that lie.
#![expect(clippy::unwrap_used, reason = "tests")]

mod liar;
mod liars;
mod lines;
mod rmcp_server;
mod transcripts;
