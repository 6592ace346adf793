//! The rule by which those who hold something share what is bounded for the whole process.
//!
//! A holder may hold as much as is still free, and no more (dynamic thresholds: Choudhury and Hahne, IEEE/ACM ToN 6(2),
//! 1998). So one alone gets half, two a third each, and there is always room for the next. Holders are counted in a
//! fixed number of slots by a keyed hash: no lock, nothing that grows, and nobody can choose whose slot to share.
//!
//! It must not know what is held, nor how much there is in all.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::ops::Deref;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Holders that are told apart; two of them share a slot by chance.
const SLOTS: usize = 4_096;

/// The key of the hash, which nobody outside of this process can know.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The slot in which a holder is counted, the same in all shares of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(u16);

/// Counts what each holder holds.
#[derive(Debug)]
pub struct Shares(Box<[AtomicUsize]>);

/// What is left is for others than this holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what is left is for others")]
pub struct OverShare;

/// A part that one holder has, until it is dropped.
#[derive(Debug)]
pub struct Share<S: Deref<Target = Shares>> {
    shares: S,
    holder: Holder,
}

impl Holder {
    /// Finds the slot of a holder, by what identifies it.
    pub fn of(identity: impl Hash) -> Self {
        Self(u16::try_from(KEY.hash_one(identity) % SLOTS as u64).unwrap_or_default())
    }
}

impl Default for Shares {
    fn default() -> Self {
        Self(std::iter::repeat_with(AtomicUsize::default).take(SLOTS).collect())
    }
}

impl Shares {
    /// Takes `amount` more for a holder. `free` is what is left of everything when that is taken. The first one of a
    /// holder needs to be there and nothing more, so that also small bounds have room for everybody.
    ///
    /// # Errors
    /// If the holder may not hold so much now; what it held stays.
    pub fn take(&self, holder: Holder, amount: usize, free: usize) -> Result<(), OverShare> {
        let held = self.slot(holder).fetch_add(amount, Ordering::Relaxed).saturating_add(amount);
        if held <= free.max(1) {
            return Ok(());
        }
        self.give_back(holder, amount);
        Err(OverShare)
    }

    /// Gives `amount` back that was taken.
    pub fn give_back(&self, holder: Holder, amount: usize) {
        self.slot(holder).fetch_sub(amount, Ordering::Relaxed);
    }

    fn slot(&self, holder: Holder) -> &AtomicUsize {
        &self.0[usize::from(holder.0)]
    }
}

impl<S: Deref<Target = Shares>> Share<S> {
    /// Takes one more for a holder, as `Shares::take` does.
    ///
    /// # Errors
    /// If the holder may not have one more now.
    pub fn take(shares: S, holder: Holder, free: usize) -> Result<Self, OverShare> {
        shares.take(holder, 1, free)?;
        Ok(Self { shares, holder })
    }
}

impl<S: Deref<Target = Shares>> Drop for Share<S> {
    fn drop(&mut self) {
        self.shares.give_back(self.holder, 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// Holders that share no slot.
    fn holders(count: usize) -> Vec<Holder> {
        let mut found: Vec<Holder> = Vec::new();
        for identity in 0.. {
            let holder = Holder::of(identity);
            if !found.contains(&holder) {
                found.push(holder);
            }
            if found.len() == count {
                break;
            }
        }
        found
    }

    /// Takes one at a time, of `capacity` in all, until a holder gets no more.
    fn fill(
        shares: &Arc<Shares>,
        held: &mut Vec<Share<Arc<Shares>>>,
        holder: Holder,
        capacity: usize,
    ) -> usize {
        let before = held.len();
        while let Some(free) = capacity.checked_sub(held.len() + 1) {
            let Ok(share) = Share::take(Arc::clone(shares), holder, free) else { break };
            held.push(share);
        }
        held.len() - before
    }

    #[test]
    fn whoever_takes_all_leaves_half_of_what_is_free_to_the_next() {
        let (shares, mut held) = (Arc::new(Shares::default()), Vec::new());
        let fills: Vec<usize> =
            holders(3).into_iter().map(|holder| fill(&shares, &mut held, holder, 1_200)).collect();
        assert_eq!(fills, [600, 300, 150]);
        held.clear();
        assert_eq!(fill(&shares, &mut held, holders(1)[0], 1_200), 600, "what is dropped is free again");
    }

    #[test]
    fn the_first_one_of_a_holder_needs_only_to_be_there() {
        let (shares, mut held) = (Arc::new(Shares::default()), Vec::new());
        let fills: Vec<usize> =
            holders(4).into_iter().map(|holder| fill(&shares, &mut held, holder, 3)).collect();
        assert_eq!(fills, [1, 1, 1, 0]);
    }

    proptest! {
        /// Whatever the others do, one that comes anew gets at least one as long as one is free, and none holds more
        /// than was free when it took the last.
        #[test]
        fn nobody_is_kept_out_by_those_before(
            capacity in 1usize..200,
            steps in prop::collection::vec((0usize..5, any::<bool>()), 0..400),
        ) {
            let (shares, holders) = (Arc::new(Shares::default()), holders(6));
            let mut held: Vec<Vec<_>> = (0..5).map(|_| Vec::new()).collect();
            for (who, gives_back) in steps {
                let used: usize = held.iter().map(Vec::len).sum();
                if gives_back {
                    held[who].pop();
                } else if let Some(free) = capacity.checked_sub(used + 1)
                    && let Ok(share) = Share::take(Arc::clone(&shares), holders[who], free)
                {
                    held[who].push(share);
                    prop_assert!(held[who].len() <= free.max(1));
                }
            }
            let used: usize = held.iter().map(Vec::len).sum();
            if let Some(free) = capacity.checked_sub(used + 1) {
                prop_assert!(Share::take(Arc::clone(&shares), holders[5], free).is_ok());
            }
            drop(held);
            prop_assert!(shares.0.iter().all(|slot| slot.load(Ordering::Relaxed) == 0));
        }
    }
}
