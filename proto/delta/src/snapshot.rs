//! The resources that a server streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use trunkline::TypeTable;

use crate::ByType;

/// The largest response that a client takes, in bytes, and so the largest that may be sent: a client that is sent a larger
/// one loses its stream, and would be sent it again on the next.
pub const MAX_MESSAGE_BYTES: usize = 32 << 20;
/// The largest resource that is sent, encoded, in bytes. What remains of the response is for its name and for removals.
pub const MAX_RESOURCE_BYTES: usize = MAX_MESSAGE_BYTES - (2 << 20);

/// A resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Item {
    /// Equal content has an equal version, on every server.
    pub version: Arc<str>,
    /// The encoded message.
    pub body: Vec<u8>,
}

impl Item {
    /// Returns whether it is larger than a client takes. It is never sent: clients keep the last one that was.
    pub fn is_too_large(&self) -> bool {
        self.body.len() > MAX_RESOURCE_BYTES
    }

    /// Returns the reason for which it is not sent, if it is too large.
    pub fn excess(&self) -> Option<String> {
        let bytes = self.body.len();
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
