//! The resources that a server streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use prost_types::Any;
use trunkline::TypeTable;
use trunkline::discovery::v1::{StreamResourcesResponse, VersionedResource};

use crate::ByType;

/// The largest response that a client takes, in bytes, and so the largest that may be sent: a client that is sent a larger
/// one loses its stream, and would be sent it again on the next.
pub const MAX_MESSAGE_BYTES: usize = 32 << 20;
/// The largest resource that is sent, encoded, in bytes. What remains of the response is for its name and for removals.
pub const MAX_RESOURCE_BYTES: usize = MAX_MESSAGE_BYTES - (2 << 20);

/// A version of a resource, encoded once for all who are sent it.
#[derive(Debug)]
pub struct Item {
    /// Equal content has an equal version, on every server.
    pub version: Arc<str>,
    /// The revision of the registry that made it so. 0: it takes none.
    pub revision: i64,
    /// The field of a response that carries it. Its message is the end of it.
    field: Bytes,
    body_len: usize,
}

/// What clients are sent of two items is the same.
impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.field == other.field
    }
}

impl Item {
    /// Encodes a resource of a type, whose message is `body`, encoded.
    pub fn new<T: TypeTable>(kind: T, name: &str, version: &str, revision: i64, body: Vec<u8>) -> Self {
        let body_len = body.len();
        let resource = VersionedResource {
            name: name.to_owned(),
            version: version.to_owned(),
            body: Some(Any { type_url: kind.url().to_owned(), value: body }),
        };
        let field = StreamResourcesResponse { resources: vec![resource], ..Default::default() };
        Self { version: version.into(), revision, field: field.encode_to_vec().into(), body_len }
    }

    /// The encoded message.
    pub fn body(&self) -> &[u8] {
        &self.field[self.field.len() - self.body_len..]
    }

    /// The field of a response that carries the resource: the same bytes for all who are sent it.
    pub fn field(&self) -> &Bytes {
        &self.field
    }

    /// Returns whether it is larger than a client takes. It is never sent: clients keep the last one that was.
    pub fn is_too_large(&self) -> bool {
        self.body_len > MAX_RESOURCE_BYTES
    }

    /// Returns the reason for which it is not sent, if it is too large.
    pub fn excess(&self) -> Option<String> {
        let bytes = self.body_len;
        self.is_too_large().then(|| {
            format!(
                "it is too large to be sent: {bytes} bytes, and at most {MAX_RESOURCE_BYTES} are sent; \
                 make it smaller, or split it"
            )
        })
    }
}

/// The resources of one type, by name.
pub type Items = BTreeMap<Arc<str>, Arc<Item>>;

/// Everything that clients may hold at one revision, immutable.
#[derive(Debug, Clone)]
pub struct Snapshot<T> {
    /// The revision of the registry.
    pub revision: i64,
    /// The resources of each type.
    pub items: ByType<T, Arc<Items>>,
}

impl<T: TypeTable> Default for Snapshot<T> {
    fn default() -> Self {
        Self { revision: 0, items: ByType::default() }
    }
}
