//! `mcpctl`: drives Trunkline over gRPC and bridges stdio.
//!
//! Reading order: [`args`] (what a person types) -> [`commands`] (one file a verb) -> [`nouns`] (one row a
//! noun) -> [`rpc`] (one generic call over the contract's descriptors) -> [`output`]. [`bridge`] is apart: it
//! carries MCP between stdio and HTTP and knows nothing of the registry. Only `commands/dev.rs` knows the two
//! other roles.

pub mod args;
pub mod bridge;
pub mod commands;
pub mod context;
pub mod contract;
pub mod error;
pub mod manifest;
pub mod nouns;
pub mod output;
pub mod parse;
pub mod rpc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
