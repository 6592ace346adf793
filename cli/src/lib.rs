//! `mcpctl`: drives Trunkline over gRPC and bridges stdio.
//!
//! Reading order: [`args`] (what a person types) -> [`commands`] (one file a verb) -> [`kinds`] (one row a
//! kind) -> [`control_client`] (one generic call over the contract's descriptors) -> [`output`]. [`bridge`] is apart: it
//! carries MCP between stdio and HTTP and knows nothing of the registry. Only `commands/dev.rs` knows the two
//! other roles.

pub mod args;
pub mod bridge;
pub mod commands;
pub mod context;
pub mod control_client;
pub mod error;
pub mod kinds;
pub mod manifest;
pub mod output;
pub mod parse;
pub mod reflection;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
