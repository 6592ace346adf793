//! What only one edge holds, such as a call that waits for its client or a connection of a client, found by its place
//! from any thread and, through the peers, from any edge. It must not know what is waited for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Deliveries that may wait for one holder.
const MAX_WAITING: usize = 64;
/// Things that one edge holds at a time.
const MAX_HELD: usize = 65_536;

/// Where something is held. It is told to clients only within sealed handles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The id of the edge.
    pub edge: Box<str>,
    /// Names it there. Random, so that what an edge held before it was restarted is not found after.
    pub number: u64,
}

/// Something that is brought to a holder.
#[derive(Debug)]
pub struct Delivery {
    /// What it is; the holder knows how to read it.
    pub message: Bytes,
    /// Where what follows on it is written, for who wants to know. The end is that the sender is dropped.
    pub answers: Option<mpsc::Sender<Bytes>>,
}

/// Why a delivery did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// Nothing is held there any more, or the edge is gone.
    #[error("its waiter is gone")]
    Gone,
    /// Its holder has too much before it.
    #[error("too many messages are waiting")]
    Full,
}

/// What one edge holds.
#[derive(Debug, Default)]
pub struct Held {
    edge: Box<str>,
    places: Mutex<HashMap<u64, mpsc::Sender<Delivery>>>,
}

/// One thing that is held, until it is dropped.
#[derive(Debug)]
pub struct Holding {
    held: Arc<Held>,
    number: u64,
    deliveries: mpsc::Receiver<Delivery>,
}

impl Held {
    /// Nothing yet, at the edge of this id.
    pub fn new(edge: &str) -> Self {
        Self { edge: edge.into(), places: Mutex::default() }
    }

    /// The id of this edge.
    pub fn edge(&self) -> &str {
        &self.edge
    }

    /// How much it holds.
    pub fn len(&self) -> usize {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Holds something more, unless too much is held.
    pub fn hold(self: &Arc<Self>) -> Option<Holding> {
        let (sender, deliveries) = mpsc::channel(MAX_WAITING);
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= MAX_HELD {
            return None;
        }
        let number = rand::random();
        places.insert(number, sender);
        Some(Holding { held: Arc::clone(self), number, deliveries })
    }

    /// Brings something to a holder at this edge.
    ///
    /// # Errors
    /// When it is no longer held, or its holder does not keep up.
    pub fn deliver(&self, number: u64, delivery: Delivery) -> Result<(), Undelivered> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let holder = places.get(&number).ok_or(Undelivered::Gone)?;
        holder.try_send(delivery).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Undelivered::Full,
            mpsc::error::TrySendError::Closed(_) => Undelivered::Gone,
        })
    }
}

impl Holding {
    /// Where it is held.
    pub fn place(&self) -> Place {
        Place { edge: self.held.edge.clone(), number: self.number }
    }

    /// Waits for the next delivery. The future may be dropped and made anew.
    pub async fn next(&mut self) -> Delivery {
        match self.deliveries.recv().await {
            Some(delivery) => delivery,
            // The sender lies in the table for as long as this exists.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.held.places.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(message: &'static str) -> Delivery {
        Delivery { message: Bytes::from_static(message.as_bytes()), answers: None }
    }

    #[tokio::test]
    async fn what_is_held_is_found_until_it_is_let_go() {
        let held = Arc::new(Held::new("e"));
        let mut holding = held.hold().unwrap();
        let place = holding.place();
        assert_eq!(&*place.edge, "e");
        held.deliver(place.number, delivery("a")).unwrap();
        assert_eq!(holding.next().await.message, "a");
        drop(holding);
        assert_eq!(held.deliver(place.number, delivery("b")), Err(Undelivered::Gone));
        assert!(held.places.lock().unwrap().is_empty());
    }

    #[test]
    fn a_holder_that_does_not_keep_up_is_told_no_more() {
        let held = Arc::new(Held::new("e"));
        let holding = held.hold().unwrap();
        for _ in 0..MAX_WAITING {
            held.deliver(holding.number, delivery("a")).unwrap();
        }
        assert_eq!(held.deliver(holding.number, delivery("a")), Err(Undelivered::Full));
    }
}
