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

/// The types of resource that a stream carries. A package that declares some with `option (trunkline.common.v1.stream)`
/// has a `StreamType`, generated, that implements it.
pub trait TypeTable: Copy + Ord + std::fmt::Debug + 'static {
    /// All types, in the order in which additions are pushed; removals are pushed in reverse.
    const ALL: &'static [Self];

    /// The position in `ALL`.
    fn index(self) -> usize;

    /// The name of the message.
    fn name(self) -> &'static str;

    /// The type URL, as in `google.protobuf.Any`.
    fn url(self) -> &'static str;

    /// Returns whether a removal is pushed at once, and not after all additions.
    fn is_removed_at_once(self) -> bool;

    /// Finds the type of a URL; `None` for types of other versions of Trunkline.
    fn parse(url: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.url() == url)
    }
}
