//! The gRPC contract: the generated packages and their descriptors, and no logic.
//!
//! It knows neither the MCP wire protocol (crate `mcp`) nor any process that speaks the contract.

#[allow(clippy::all, unreachable_pub, missing_docs, reason = "generated code")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}

pub use generated::trunkline::*;

/// The encoded `google.protobuf.FileDescriptorSet` of the whole contract, comments included: what
/// reflection serves and what proto-JSON is read and written by.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
