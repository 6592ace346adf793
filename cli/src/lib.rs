//! `mcpctl`: manages Trunkline over gRPC, and bridges stdio.
//!
//! Reading order: [`args`] (the command line) -> [`commands`] (one file per verb) -> [`kinds`] (one row per kind) ->
//! [`control_client`] (one generic gRPC call) -> [`output`]. [`bridge`] is separate: it carries MCP between stdio and HTTP and
//! knows nothing of the registry. Only `commands/dev.rs` knows the other two programs.

pub mod answers;
pub mod args;
pub mod ask;
pub mod bridge;
pub mod client;
pub mod commands;
pub mod complete;
pub mod confirm;
pub mod context;
pub mod control_client;
pub mod error;
pub mod examples;
pub mod groups;
pub mod joined;
pub mod kinds;
pub mod manifest;
pub mod output;
pub mod parse;
pub mod reflection;
pub mod selection;
pub mod selector;
pub mod shell;
pub mod suggest;
pub mod toml;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
