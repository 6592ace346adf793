//! The memory that bodies may take together, shared between the callers that send them.
//!
//! It must not know who they are.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;

use crate::shares::{Holder, Shares};

/// The memory that bodies may take.
#[derive(Debug)]
pub struct BodyBudget {
    capacity: usize,
    used: AtomicUsize,
    shares: Shares,
    refused: AtomicU64,
}

/// The budget is used up, or what is left of it is for others than this caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much memory is in use for bodies")]
pub struct OverBudget;

/// The bytes that one body takes from the budget, until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<BodyBudget>,
    caller: Holder,
    bytes: AtomicUsize,
}

/// Bytes that are in the budget for as long as any part of them is there.
struct Reserved {
    bytes: Bytes,
    _reservation: Reservation,
}

impl BodyBudget {
    /// Creates a budget of `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, used: AtomicUsize::new(0), shares: Shares::default(), refused: AtomicU64::new(0) }
    }

    /// Begins the reservation of a body that `caller` sends, with no bytes yet.
    pub fn reservation(self: &Arc<Self>, caller: impl Hash) -> Reservation {
        Reservation { budget: Arc::clone(self), caller: Holder::of(caller), bytes: AtomicUsize::new(0) }
    }

    /// Counts the bytes that are taken.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Counts the bodies that were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn take(&self, caller: Holder, bytes: usize) -> Result<(), OverBudget> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        // What others take at the same moment counts, too: then both may be refused, and never both be let in.
        let free = self.capacity.checked_sub(used);
        if free.is_some_and(|free| self.shares.take(caller, bytes, free).is_ok()) {
            return Ok(());
        }
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(OverBudget)
    }

    fn give_back(&self, caller: Holder, bytes: usize) {
        self.shares.give_back(caller, bytes);
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Reservation {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// If the caller may not hold so much now; what it held stays.
    pub fn grow(&self, bytes: usize) -> Result<(), OverBudget> {
        self.budget.take(self.caller, bytes)?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back all bytes.
    pub fn clear(&self) {
        self.budget.give_back(self.caller, self.bytes.swap(0, Ordering::Relaxed));
    }

    /// Keeps the reservation for as long as any part of `bytes` is there.
    pub fn attach(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Reserved { bytes, _reservation: self })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.clear();
    }
}

impl AsRef<[u8]> for Reserved {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes a byte at a time until there is no more.
    fn fill(reservation: &Reservation) -> usize {
        std::iter::repeat_with(|| reservation.grow(1)).take_while(Result::is_ok).count()
    }

    #[test]
    fn whoever_floods_leaves_room_for_others() {
        let budget = Arc::new(BodyBudget::new(1_200));
        let (first, again) = (budget.reservation(0), budget.reservation(0));
        // Callers share a slot by chance.
        let other = (1..).map(|caller| budget.reservation(caller)).find(|other| other.caller != first.caller);
        let other = other.unwrap();
        assert_eq!(fill(&first), 600);
        // Another connection of the same caller gets nothing more, and another caller half of what is left.
        assert_eq!((fill(&again), fill(&other), budget.refused()), (0, 300, 3));
        drop(first);
        assert_eq!(fill(&again), 450);
        drop((other, again));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn bytes_are_in_the_budget_until_their_last_part_is_gone() {
        let budget = Arc::new(BodyBudget::new(100));
        let reservation = budget.reservation(1);
        reservation.grow(8).unwrap();
        let body = reservation.attach(Bytes::from_static(b"12345678"));
        let part = body.slice(2..4);
        drop(body);
        assert_eq!((&part[..], budget.used()), (&b"34"[..], 8));
        drop(part);
        assert_eq!(budget.used(), 0);
    }

    proptest! {
        #[test]
        fn all_together_stay_within_the_budget_and_all_of_it_comes_back(
            capacity in 0usize..5_000,
            steps in prop::collection::vec((0usize..6, 0usize..1_000, any::<bool>()), 0..100),
        ) {
            let budget = Arc::new(BodyBudget::new(capacity));
            let reservations: Vec<_> = (0..6).map(|caller| budget.reservation(caller)).collect();
            let mut held = [0; 6];
            for (caller, bytes, clears) in steps {
                if clears {
                    reservations[caller].clear();
                    held[caller] = 0;
                } else if reservations[caller].grow(bytes).is_ok() {
                    held[caller] += bytes;
                    prop_assert!(held[caller] <= (capacity - budget.used()).max(1));
                }
                prop_assert_eq!(budget.used(), held.iter().sum::<usize>());
                prop_assert!(budget.used() <= capacity);
            }
            drop(reservations);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
