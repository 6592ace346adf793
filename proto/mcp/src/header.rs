//! HTTP headers of the protocol: their names, and how values are written into them.

/// An argument that is mirrored into a header (`x-mcp-header`, revision 2026-07-28).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirroredParam {
    /// What follows `Mcp-Param-`.
    pub header: String,
    /// The way from the root of the arguments to the value, by property names.
    pub path: Vec<String>,
}
