//! The resources of `edge.v1` as edges are sent them, each with a hash of its content as its version.
//!
//! It must not know where resources come from or who receives them.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use delta::Item;
use prost::Message as _;
use trunkline::edge::v1::{StreamType, Token};

use crate::clock;
use crate::domain::token;

/// Everything that edges may hold at one revision.
pub type Snapshot = delta::Snapshot<StreamType>;

/// Creates the item of a resource, of whose type and content these bytes are, as the registry has it since `revision`.
pub fn item(kind: StreamType, name: &str, revision: i64, body: Vec<u8>) -> Item {
    let hash = digest(&SHA256, &body);
    Item::new(kind, name, &URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]), revision, body)
}

/// Counts the tokens that are good for less than seven days more.
pub fn expiring_tokens(snapshot: &Snapshot) -> usize {
    let now_us = clock::now_us();
    let tokens = snapshot.items[StreamType::Token].values();
    let tokens = tokens.filter_map(|item| Token::decode(item.body()).ok()).filter(|token| !token.revoked);
    let ends = tokens.filter_map(|token| token.expire_time);
    ends.filter(|end| token::is_soon(clock::micros(end), now_us)).count()
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
        let item = |revision, body: &str| item(StreamType::Tool, "t", revision, body.as_bytes().to_vec());
        assert_eq!(item(1, "a"), item(2, "a"));
        assert_ne!(item(1, "a").version, item(1, "b").version);
        assert_eq!(item(1, "abc").body(), b"abc");
    }
}
