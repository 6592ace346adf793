//! The snapshot: everything that edges may hold at one revision, immutable, each resource with its version.
//!
//! It must not know where resources come from or who receives them.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A type of resource, in the order in which additions are pushed; removals go in reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamType {
    /// A credential that is presented to an upstream.
    Secret,
    /// The keys that verify bearers and open handles.
    TrustBundle,
    /// Another edge, as edges reach each other.
    Sibling,
    /// An upstream that calls go to.
    Upstream,
    /// A tool of an upstream.
    Tool,
    /// A resource or a template of an upstream.
    Resource,
    /// A prompt of an upstream.
    Prompt,
    /// The scope of one bearer.
    Token,
    /// A virtual server.
    Server,
}

/// The number of types.
pub const TYPES: usize = StreamType::ALL.len();

/// One resource: its bytes, and the hash of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Item {
    /// Equal content has an equal version, on every control plane.
    pub version: Arc<str>,
    /// The encoded message.
    pub body: Vec<u8>,
}

/// The resources of one type, by name.
pub type Items = BTreeMap<Arc<str>, Arc<Item>>;

/// Everything at one revision.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The revision of the registry.
    pub revision: i64,
    types: [Arc<Items>; TYPES],
}

impl StreamType {
    /// All of them, in push order.
    pub const ALL: [Self; 9] = [
        Self::Secret,
        Self::TrustBundle,
        Self::Sibling,
        Self::Upstream,
        Self::Tool,
        Self::Resource,
        Self::Prompt,
        Self::Token,
        Self::Server,
    ];

    /// The type URL, as in `google.protobuf.Any`.
    pub fn url(self) -> &'static str {
        match self {
            Self::Secret => "type.googleapis.com/trunkline.edge.v1.Secret",
            Self::TrustBundle => "type.googleapis.com/trunkline.edge.v1.TrustBundle",
            Self::Sibling => "type.googleapis.com/trunkline.edge.v1.Sibling",
            Self::Upstream => "type.googleapis.com/trunkline.edge.v1.Upstream",
            Self::Tool => "type.googleapis.com/trunkline.edge.v1.Tool",
            Self::Resource => "type.googleapis.com/trunkline.edge.v1.Resource",
            Self::Prompt => "type.googleapis.com/trunkline.edge.v1.Prompt",
            Self::Token => "type.googleapis.com/trunkline.edge.v1.Token",
            Self::Server => "type.googleapis.com/trunkline.edge.v1.Server",
        }
    }

    /// The type of a URL; `None` for those of other versions of Trunkline.
    pub fn parse(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.url() == url)
    }

    /// Position in push order.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl Item {
    /// An item of these bytes.
    pub fn new(body: Vec<u8>) -> Self {
        let hash = digest(&SHA256, &body);
        Self { version: URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]).into(), body }
    }
}

impl Snapshot {
    /// A snapshot of these resources.
    pub fn new(revision: i64, types: [Arc<Items>; TYPES]) -> Self {
        Self { revision, types }
    }

    /// The resources of a type.
    pub fn items(&self, kind: StreamType) -> &Arc<Items> {
        &self.types[kind.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_return() {
        for (position, kind) in StreamType::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), position);
            assert_eq!(StreamType::parse(kind.url()), Some(kind));
        }
        assert_eq!(StreamType::parse("type.googleapis.com/trunkline.edge.v9.Server"), None);
    }

    #[test]
    fn versions_are_of_the_content() {
        assert_eq!(Item::new(b"a".to_vec()), Item::new(b"a".to_vec()));
        assert_ne!(Item::new(b"a".to_vec()).version, Item::new(b"b".to_vec()).version);
    }
}
