//! The waiters of this edge, such as a call that waits for its client or a connection of a client.
//!
//! Each is found by its address from any thread and, through the fleet, from any edge. It must not know what is waited for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::collections::byte_queue::{self, NotQueued, Weigh};
use crate::session::WaiterAddress;

/// Deliveries that may wait for one waiter.
const MAX_DELIVERIES: usize = 64;
/// Their bytes; a larger one waits alone.
const MAX_DELIVERY_BYTES: usize = 4 << 20;
/// Waiters of one edge at a time.
const MAX_WAITERS: usize = 65_536;

/// A message for a waiter.
#[derive(Debug)]
pub struct Delivery {
    /// The message; the waiter knows how to read it.
    pub message: Bytes,
    /// The channel for what follows on it, if the sender wants that. It ends when the sender half is dropped.
    pub answers: Option<mpsc::Sender<Bytes>>,
}

impl Weigh for Delivery {
    fn bytes(&self) -> usize {
        self.message.len()
    }
}

/// The reason that a delivery did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// Nothing waits there any more, or the edge is gone.
    #[error("its waiter is gone")]
    Gone,
    /// The waiter has too many deliveries before it.
    #[error("too many messages are waiting")]
    Full,
}

/// The waiters of one edge.
#[derive(Debug, Default)]
pub struct Waiters {
    edge: Box<str>,
    deliveries: Mutex<HashMap<u64, byte_queue::Sender<Delivery>>>,
}

/// The receiving end of one address, until it is dropped.
#[derive(Debug)]
pub struct Waiter {
    waiters: Arc<Waiters>,
    number: u64,
    deliveries: byte_queue::Receiver<Delivery>,
}

impl Waiters {
    /// None yet, at the edge of this id.
    pub fn new(edge: &str) -> Self {
        Self { edge: edge.into(), deliveries: Mutex::default() }
    }

    /// The id of this edge.
    pub fn edge(&self) -> &str {
        &self.edge
    }

    /// Counts the waiters.
    pub fn len(&self) -> usize {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Registers one more waiter, unless there are too many.
    pub fn register(self: &Arc<Self>) -> Option<Waiter> {
        let (sender, receiver) = byte_queue::channel(MAX_DELIVERIES, MAX_DELIVERY_BYTES);
        let mut deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        if deliveries.len() >= MAX_WAITERS {
            return None;
        }
        let number = rand::random();
        deliveries.insert(number, sender);
        Some(Waiter { waiters: Arc::clone(self), number, deliveries: receiver })
    }

    /// Delivers a message to a waiter at this edge.
    ///
    /// # Errors
    /// If it no longer waits, or does not keep up.
    pub fn deliver(&self, number: u64, delivery: Delivery) -> Result<(), Undelivered> {
        let deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        let waiter = deliveries.get(&number).ok_or(Undelivered::Gone)?;
        waiter.try_send(delivery).map_err(
            |NotQueued { closed }| {
                if closed { Undelivered::Gone } else { Undelivered::Full }
            },
        )
    }
}

impl Waiter {
    /// The address that finds it.
    pub fn address(&self) -> WaiterAddress {
        WaiterAddress { edge: self.waiters.edge.clone(), number: self.number }
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

impl Drop for Waiter {
    fn drop(&mut self) {
        self.waiters.deliveries.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(message: &'static str) -> Delivery {
        Delivery { message: Bytes::from_static(message.as_bytes()), answers: None }
    }

    #[tokio::test]
    async fn a_waiter_is_found_until_it_is_dropped() {
        let waiters = Arc::new(Waiters::new("e"));
        let mut waiter = waiters.register().unwrap();
        let address = waiter.address();
        assert_eq!(&*address.edge, "e");
        waiters.deliver(address.number, delivery("a")).unwrap();
        assert_eq!(waiter.next().await.message, "a");
        drop(waiter);
        assert_eq!(waiters.deliver(address.number, delivery("b")), Err(Undelivered::Gone));
        assert!(waiters.is_empty());
    }

    #[test]
    fn a_waiter_that_does_not_keep_up_gets_no_more() {
        let waiters = Arc::new(Waiters::new("e"));
        let waiter = waiters.register().unwrap();
        for _ in 0..MAX_DELIVERIES {
            waiters.deliver(waiter.number, delivery("a")).unwrap();
        }
        assert_eq!(waiters.deliver(waiter.number, delivery("a")), Err(Undelivered::Full));
    }

    #[test]
    fn what_waits_for_a_waiter_is_bounded_in_bytes() {
        let waiters = Arc::new(Waiters::new("e"));
        let waiter = waiters.register().unwrap();
        let deliver = || {
            let message = vec![b'a'; MAX_DELIVERY_BYTES - 1].into();
            waiters.deliver(waiter.number, Delivery { message, answers: None })
        };
        assert_eq!([deliver(), deliver()], [Ok(()), Err(Undelivered::Full)]);
    }
}
