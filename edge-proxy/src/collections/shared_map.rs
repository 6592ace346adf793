//! A map of a bounded size, whose room is shared by those who put entries into it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use inbound::{Holder, Share, Shares};

/// A map that holds at most `capacity` entries, and of each holder's no more than are left for others.
#[derive(Debug)]
pub(crate) struct SharedMap<K, V> {
    entries: HashMap<K, Held<V>>,
    shares: Arc<Shares>,
    capacity: usize,
    /// The time at which entries that are of no use were last removed.
    swept_at: Option<u64>,
}

#[derive(Debug)]
struct Held<V> {
    value: V,
    _share: Share<Arc<Shares>>,
}

/// The reason for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// The map is full.
    Full,
    /// What is left is for other holders.
    Share,
}

impl<K: Eq + Hash, V> SharedMap<K, V> {
    /// Creates an empty map.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), shares: Arc::default(), capacity, swept_at: None }
    }

    /// Returns the value of `key`, which `holder` adds if there is none. Where that needs room, entries that are of no
    /// use are removed, once for each `now`, since whoever floods would have it done again and again.
    pub(crate) fn get_or_insert_with(
        &mut self,
        key: K,
        holder: Holder,
        now: u64,
        is_of_use: impl Fn(&V) -> bool,
        make: impl FnOnce() -> V,
    ) -> Result<&mut V, NoRoom> {
        if !self.entries.contains_key(&key) {
            let share = match self.take(holder) {
                Err(_) if self.swept_at != Some(now) => {
                    self.swept_at = Some(now);
                    self.entries.retain(|_, held| is_of_use(&held.value));
                    self.take(holder)
                }
                taken => taken,
            }?;
            let held = Held { value: make(), _share: share };
            return Ok(&mut self.entries.entry(key).or_insert(held).value);
        }
        self.get_mut(&key).ok_or(NoRoom::Full)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|held| &held.value)
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|held| &mut held.value)
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, held)| (key, &held.value))
    }

    fn take(&self, holder: Holder) -> Result<Share<Arc<Shares>>, NoRoom> {
        let free = self.capacity.checked_sub(self.entries.len() + 1).ok_or(NoRoom::Full)?;
        Share::take(Arc::clone(&self.shares), holder, free).map_err(|_| NoRoom::Share)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Holders that share no slot.
    fn holders() -> [Holder; 2] {
        let first = Holder::of(0);
        [first, (1..).map(Holder::of).find(|holder| *holder != first).unwrap()]
    }

    fn add(map: &mut SharedMap<u32, u64>, key: u32, holder: Holder, now: u64) -> Result<u64, NoRoom> {
        map.get_or_insert_with(key, holder, now, |expires| *expires > now, || now + 10).copied()
    }

    #[test]
    fn whoever_floods_leaves_room_and_what_is_of_no_use_makes_it() {
        let (mut map, [first, second]) = (SharedMap::new(8), holders());
        let added = (0..8).take_while(|key| add(&mut map, *key, first, 0).is_ok()).count();
        assert_eq!((added, add(&mut map, 99, first, 0)), (4, Err(NoRoom::Share)));
        assert_eq!(add(&mut map, 100, second, 0), Ok(10));
        assert_eq!(add(&mut map, 0, first, 0), Ok(10), "what is there needs no room");
        assert_eq!(add(&mut map, 99, first, 10), Ok(20), "what has expired leaves it");
        assert_eq!(map.iter().count(), 1);
        map.remove(&99);
        assert_eq!((0..8).take_while(|key| add(&mut map, *key, first, 10).is_ok()).count(), 4);
    }

    proptest! {
        #[test]
        fn it_is_a_map_within_its_bounds(
            capacity in 0usize..20,
            steps in prop::collection::vec((0u32..30, 0usize..2, any::<bool>()), 0..200),
        ) {
            let (mut map, holders, mut model) = (SharedMap::new(capacity), holders(), HashMap::new());
            for (key, holder, removes) in steps {
                if removes {
                    map.remove(&key);
                    model.remove(&key);
                } else if map.get_or_insert_with(key, holders[holder], 0, |_| true, || holder).is_ok() {
                    model.entry(key).or_insert(holder);
                }
                prop_assert!(model.len() <= capacity);
                prop_assert_eq!(map.iter().map(|(key, holder)| (*key, *holder)).collect::<HashMap<_, _>>(), model.clone());
                prop_assert_eq!(map.get(&key), model.get(&key));
            }
        }
    }
}
