//! The resources of `edge.v1` as edges are sent them, each with a hash of its content as its version.
//!
//! It must not know where resources come from or who receives them.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use delta::Item;
use trunkline::edge::v1::StreamType;

/// Everything that edges may hold at one revision.
pub type Snapshot = delta::Snapshot<StreamType>;

/// Creates an item of these bytes.
pub fn item(body: Vec<u8>) -> Item {
    let hash = digest(&SHA256, &body);
    Item { version: URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]).into(), body }
}

#[cfg(test)]
mod tests {
    use trunkline::TypeTable as _;

    use super::*;

    #[test]
    fn types_are_found_by_their_urls() {
        for (position, &kind) in StreamType::ALL.iter().enumerate() {
            assert_eq!(kind.index(), position);
            assert_eq!(StreamType::parse(kind.url()), Some(kind));
        }
        assert_eq!(StreamType::parse("type.googleapis.com/trunkline.edge.v9.Server"), None);
        assert_eq!(StreamType::parse("Tool"), None);
    }

    #[test]
    fn versions_are_of_the_content() {
        assert_eq!(item(b"a".to_vec()), item(b"a".to_vec()));
        assert_ne!(item(b"a".to_vec()).version, item(b"b".to_vec()).version);
    }
}
