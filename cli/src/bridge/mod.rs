//! MCP between stdio and HTTP: [`expose`] serves a stdio server over HTTP, [`connect`] serves an edge over stdio.
//!
//! It knows the protocol and processes, and nothing of the registry, contexts or commands.

pub mod child;
pub mod connect;
pub mod errors;
pub mod expose;
pub mod joined_lines;
pub mod reaper;
