//! The resources that a server streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use trunkline::TypeTable;

use crate::ByType;

/// A resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Item {
    /// Equal content has an equal version, on every server.
    pub version: Arc<str>,
    /// The encoded message.
    pub body: Vec<u8>,
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
