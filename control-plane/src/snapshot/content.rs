//! The snapshot: everything that edges may hold at one revision, immutable, each resource with its version.
//!
//! It must not know where resources come from or who receives them.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use trunkline::TypeTable as _;
use trunkline::edge::v1::StreamType;

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
        for (position, &kind) in StreamType::ALL.iter().enumerate() {
            assert_eq!(kind.index(), position);
            assert_eq!(StreamType::parse(kind.url()), Some(kind));
        }
        assert_eq!(StreamType::parse("type.googleapis.com/trunkline.edge.v9.Server"), None);
        assert_eq!(StreamType::parse("Tool"), None);
    }

    #[test]
    fn versions_are_of_the_content() {
        assert_eq!(Item::new(b"a".to_vec()), Item::new(b"a".to_vec()));
        assert_ne!(Item::new(b"a".to_vec()).version, Item::new(b"b".to_vec()).version);
    }
}
