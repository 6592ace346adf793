//! The other edges: brings them what only they hold. It must not know what that is.

use std::sync::Arc;

use crate::held::{Delivery, Held, Place, Undelivered};

/// The edges of this fleet, this one included.
#[derive(Debug)]
pub struct Peers {
    held: Arc<Held>,
}

impl Peers {
    /// This edge alone.
    pub fn new(held: Arc<Held>) -> Self {
        Self { held }
    }

    /// What this edge holds.
    pub fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// Brings something to its holder, wherever that is.
    ///
    /// # Errors
    /// When its holder is gone, or does not keep up.
    pub async fn deliver(&self, place: &Place, delivery: Delivery) -> Result<(), Undelivered> {
        if *place.edge == *self.held.edge() {
            return self.held.deliver(place.number, delivery);
        }
        Err(Undelivered::Gone)
    }
}
