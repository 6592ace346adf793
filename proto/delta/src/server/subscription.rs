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
}

impl Subscription {
    /// Subscribes to `name`. Returns it, unless it is the wildcard.
    pub(super) fn add(&mut self, name: &str) -> Option<Arc<str>> {
        if name == WILDCARD {
            self.wildcard = true;
            return None;
        }
        let name: Arc<str> = name.into();
        self.names.insert(name.clone());
        Some(name)
    }

    /// Ends the subscription to `name`.
    pub(super) fn remove(&mut self, name: &str) {
        match name {
            WILDCARD => self.wildcard = false,
            name => drop(self.names.remove(name)),
        }
    }

    /// Tells whether the client wants the resource of this name.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}
