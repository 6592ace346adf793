//! Queues that are bounded in items and in bytes, because what the far side sends may be large.
//!
//! An item that is larger than the bound in bytes waits until it is alone.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

/// Something that takes memory while it waits.
pub(crate) trait Weigh {
    /// The number of bytes.
    fn bytes(&self) -> usize;
}

impl Weigh for bytes::Bytes {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl<T: Weigh, E> Weigh for Result<T, E> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, Weigh::bytes)
    }
}

/// An item, and the permits that it holds.
type Held<T> = (T, u32);

/// The sending half of a queue.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    items: mpsc::Sender<Held<T>>,
    room: Arc<Semaphore>,
    bound: u32,
}

/// The receiving half of a queue.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    items: mpsc::Receiver<Held<T>>,
    room: Arc<Semaphore>,
}

/// The item was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotQueued {
    /// True if the receiver is gone; false if there is no room now.
    pub(crate) closed: bool,
}

/// Creates a queue of at most so many items, which have at most so many bytes together.
pub(crate) fn channel<T: Weigh>(max_items: usize, max_bytes: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(max_items);
    let bound = u32::try_from(max_bytes).unwrap_or(u32::MAX).max(1);
    let room = Arc::new(Semaphore::new(bound as usize));
    (Sender { items: sender, room: Arc::clone(&room), bound }, Receiver { items: receiver, room })
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), room: Arc::clone(&self.room), bound: self.bound }
    }
}

impl<T: Weigh> Sender<T> {
    fn weight(&self, item: &T) -> u32 {
        u32::try_from(item.bytes()).unwrap_or(u32::MAX).min(self.bound)
    }

    /// Queues an item, once there is room. Cancel safe: what is dropped before was not queued.
    ///
    /// # Errors
    /// If the receiver is gone.
    pub(crate) async fn send(&self, item: T) -> Result<(), NotQueued> {
        let closed = NotQueued { closed: true };
        let weight = self.weight(&item);
        let room = self.room.acquire_many(weight).await.map_err(|_| closed)?;
        self.items.send((item, weight)).await.map_err(|_| closed)?;
        room.forget();
        Ok(())
    }

    /// Queues an item, if there is room for it and then for another one.
    ///
    /// # Errors
    /// If there is not, or the receiver is gone.
    pub(crate) fn try_send_but_one(&self, item: T) -> Result<(), NotQueued> {
        if self.items.capacity() > 1 {
            self.try_send(item)
        } else {
            Err(NotQueued { closed: self.is_closed() })
        }
    }

    /// Queues an item, if there is room.
    ///
    /// # Errors
    /// If there is none, or the receiver is gone.
    pub(crate) fn try_send(&self, item: T) -> Result<(), NotQueued> {
        let weight = self.weight(&item);
        let refused = || NotQueued { closed: self.is_closed() };
        let room = self.room.try_acquire_many(weight).map_err(|_| refused())?;
        self.items.try_send((item, weight)).map_err(|_| refused())?;
        room.forget();
        Ok(())
    }

    /// Queues the last item, which waits for no bytes but only for its place.
    ///
    /// # Errors
    /// If the receiver is gone.
    pub(crate) async fn send_last(&self, item: T) -> Result<(), NotQueued> {
        self.items.send((item, 0)).await.map_err(|_| NotQueued { closed: true })
    }

    /// Queues the last item, if there is a place.
    ///
    /// # Errors
    /// If there is none, or the receiver is gone.
    pub(crate) fn try_send_last(&self, item: T) -> Result<(), NotQueued> {
        self.items.try_send((item, 0)).map_err(|_| NotQueued { closed: self.is_closed() })
    }

    /// Whether the receiver is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.items.is_closed()
    }

    /// Waits until there is room for something. Cancel safe.
    ///
    /// # Errors
    /// If the receiver is gone.
    pub(crate) async fn ready(&self) -> Result<(), NotQueued> {
        let closed = NotQueued { closed: true };
        let _room = self.room.acquire().await.map_err(|_| closed)?;
        self.items.reserve().await.map_err(|_| closed)?;
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// Returns the next item; `None` when all senders are gone. Cancel safe.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        let held = self.items.recv().await?;
        Some(self.release(held))
    }

    /// Returns the next item, if one waits.
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        let held = self.items.try_recv().ok()?;
        Some(self.release(held))
    }

    fn release(&self, (item, weight): Held<T>) -> T {
        if weight > 0 {
            self.room.add_permits(weight as usize);
        }
        item
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.room.close();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    const FULL: NotQueued = NotQueued { closed: false };
    const CLOSED: NotQueued = NotQueued { closed: true };

    fn item(bytes: usize) -> Bytes {
        vec![b'x'; bytes].into()
    }

    #[tokio::test]
    async fn bytes_are_bounded_and_come_back() {
        let (sender, mut receiver) = channel(8, 10);
        sender.try_send(item(6)).unwrap();
        assert_eq!(sender.try_send(item(5)), Err(FULL));
        sender.try_send(item(4)).unwrap();
        assert_eq!(sender.send(item(1)).now_or_never(), None);
        sender.send_last(item(100)).now_or_never().unwrap().unwrap();
        for expected in [6, 4, 100] {
            assert_eq!(receiver.recv().await.unwrap().len(), expected);
        }
        // One that is larger than the bound waits until it is alone.
        sender.try_send(item(1)).unwrap();
        assert_eq!(sender.try_send(item(100)), Err(FULL));
        receiver.recv().await.unwrap();
        sender.try_send(item(100)).unwrap();
    }

    #[tokio::test]
    async fn whoever_waits_learns_that_the_receiver_is_gone() {
        let (sender, receiver) = channel(8, 10);
        sender.try_send(item(10)).unwrap();
        let (waited, ()) = tokio::join!(sender.send(item(1)), async { drop(receiver) });
        assert_eq!((waited, sender.try_send(item(1))), (Err(CLOSED), Err(CLOSED)));
    }

    proptest! {
        #[test]
        fn what_waits_never_passes_the_bound(sizes in prop::collection::vec(0_usize..30, 0..60), reads in prop::collection::vec(any::<bool>(), 60)) {
            let (sender, mut receiver) = channel(8, 20);
            let mut waiting = std::collections::VecDeque::new();
            for (size, read) in sizes.into_iter().zip(reads) {
                if sender.try_send(item(size)).is_ok() {
                    waiting.push_back(size);
                }
                let total: usize = waiting.iter().sum();
                prop_assert!(waiting.len() <= 8 && (total <= 20 || waiting.iter().filter(|size| **size > 0).count() == 1));
                if read && let Some(size) = waiting.pop_front() {
                    prop_assert_eq!(receiver.recv().now_or_never().flatten().unwrap().len(), size);
                }
            }
        }
    }
}
