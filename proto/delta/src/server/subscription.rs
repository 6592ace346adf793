//! The resources of one type that a client wants.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Stands for every name.
const WILDCARD: &str = "*";

/// The names that a client subscribed to.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    wildcard: bool,
    names: BTreeSet<Arc<str>>,
    /// The memory for the names.
    bytes: usize,
}

impl Subscription {
    /// Subscribes to `name`. Returns it, unless it is the wildcard.
    pub(super) fn add(&mut self, name: &str) -> Option<Arc<str>> {
        if name == WILDCARD {
            self.wildcard = true;
            return None;
        }
        let name: Arc<str> = name.into();
        if self.names.insert(name.clone()) {
            self.bytes += kept_bytes(&[&name]);
        }
        Some(name)
    }

    /// Ends the subscription to `name`.
    pub(super) fn remove(&mut self, name: &str) {
        match name {
            WILDCARD => self.wildcard = false,
            name if self.names.remove(name) => self.bytes -= kept_bytes(&[name]),
            _ => {}
        }
    }

    /// Estimates the memory for the names that the client subscribed to one by one, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Tells whether the client wants every resource.
    pub(super) fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Tells whether the client subscribed to this name by itself.
    pub(super) fn names(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Tells whether the client wants the resource of this name.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}

/// Estimates the memory for a few texts that are kept together, in bytes.
pub(super) fn kept_bytes(texts: &[&str]) -> usize {
    const OVERHEAD: usize = 64;
    OVERHEAD + texts.iter().map(|text| text.len()).sum::<usize>()
}
