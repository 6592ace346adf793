//! A made-up table of types, and snapshots of them.

use std::sync::Arc;

use delta::server::OutgoingResponse;
use delta::{Item, Snapshot};
use prost::Message as _;
use trunkline::TypeTable;
use trunkline::discovery::v1::{StreamResourcesRequest, StreamResourcesResponse};

/// The types of a library: authors have books, cards let people in, and lists lead to books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Author,
    Book,
    Card,
    List,
}

impl TypeTable for Kind {
    const ALL: &'static [Self] = &[Self::Author, Self::Book, Self::Card, Self::List];

    fn index(self) -> usize {
        self as usize
    }

    fn name(self) -> &'static str {
        self.url().rsplit('.').next().unwrap()
    }

    fn url(self) -> &'static str {
        match self {
            Self::Author => "type.googleapis.com/library.v1.Author",
            Self::Book => "type.googleapis.com/library.v1.Book",
            Self::Card => "type.googleapis.com/library.v1.Card",
            Self::List => "type.googleapis.com/library.v1.List",
        }
    }

    fn is_removed_at_once(self) -> bool {
        self == Self::Card
    }
}

/// An item whose version stands for its content, as a hash does.
pub(crate) fn item(kind: Kind, name: &str, revision: i64, body: &str) -> Item {
    Item::new(kind, name, &version(body), revision, body.as_bytes().to_vec())
}

/// What a client reads of a response.
pub(crate) fn read(response: &OutgoingResponse) -> StreamResourcesResponse {
    let mut encoded = Vec::new();
    response.encode(&mut encoded);
    assert_eq!(encoded.len(), response.encoded_len());
    StreamResourcesResponse::decode(encoded.as_slice()).unwrap()
}

pub(crate) fn version(body: &str) -> String {
    match body.len() {
        0..10 => format!("v{body}"),
        length => format!("v{length} bytes"),
    }
}

/// Resources by type, name and body.
pub(crate) fn snapshot(revision: i64, items: &[(Kind, &str, &str)]) -> Arc<Snapshot<Kind>> {
    let mut snapshot = Snapshot { revision, ..Snapshot::default() };
    for (kind, name, body) in items {
        Arc::make_mut(&mut snapshot.items[*kind])
            .insert((*name).into(), item(*kind, name, revision, body).into());
    }
    Arc::new(snapshot)
}

pub(crate) fn subscribe(kind: Kind) -> StreamResourcesRequest {
    StreamResourcesRequest {
        type_url: kind.url().to_owned(),
        subscribe: vec!["*".to_owned()],
        ..Default::default()
    }
}
