//! A map whose values are set once and never replaced, so that nobody takes a lock to read one.

use std::sync::OnceLock;

/// Values by number, each set once. Writing holds others up for no longer than an allocation takes.
///
/// The buckets are allocated with the first value: a map that is never used costs nothing.
#[derive(Debug)]
pub(crate) struct OnceMap<V> {
    buckets: OnceLock<Box<[Link<V>]>>,
    width: usize,
}

type Link<V> = OnceLock<Box<Node<V>>>;

#[derive(Debug)]
struct Node<V> {
    key: u64,
    value: V,
    next: Link<V>,
}

const MIN_WIDTH: usize = 16;
const MAX_WIDTH: usize = 65_536;
/// Values a bucket, past which looking one up becomes slow.
const MAX_LOAD: usize = 4;

impl<V> Default for OnceMap<V> {
    fn default() -> Self {
        OnceMap::for_about(0)
    }
}

impl<V> OnceMap<V> {
    /// Creates a map for about so many values.
    pub(crate) fn for_about(values: usize) -> OnceMap<V> {
        let width = values.clamp(MIN_WIDTH, MAX_WIDTH).next_power_of_two();
        OnceMap { buckets: OnceLock::new(), width }
    }

    /// Returns whether so many values are found fast.
    pub(crate) fn has_room_for(&self, values: usize) -> bool {
        values <= self.width * MAX_LOAD || self.width >= MAX_WIDTH
    }

    /// Returns the value of `key`.
    pub(crate) fn get(&self, key: u64) -> Option<&V> {
        let mut link = &self.buckets.get()?[self.bucket(key)];
        while let Some(node) = link.get() {
            if node.key == key {
                return Some(&node.value);
            }
            link = &node.next;
        }
        None
    }

    /// Returns the value of `key`, which is set to what `make` returns if there is none.
    pub(crate) fn get_or_set(&self, key: u64, make: impl Fn() -> V) -> &V {
        let empty = || (0..self.width).map(|_| Link::new()).collect();
        let mut link = &self.buckets.get_or_init(empty)[self.bucket(key)];
        loop {
            let node = link.get_or_init(|| Box::new(Node { key, value: make(), next: Link::new() }));
            if node.key == key {
                return &node.value;
            }
            link = &node.next;
        }
    }

    /// Iterates over the values, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &V> {
        let firsts = self.buckets.get().into_iter().flatten().filter_map(|first| first.get());
        let nodes = firsts.flat_map(|first| std::iter::successors(Some(first), |node| node.next.get()));
        nodes.map(|node| &node.value)
    }

    fn bucket(&self, key: u64) -> usize {
        key as usize & (self.width - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_of_one_bucket_are_told_apart() {
        let map = OnceMap::for_about(0);
        let keys = [3, 3 + MIN_WIDTH as u64, 3 + 2 * MIN_WIDTH as u64];
        assert_eq!(map.get(3), None);
        for key in keys {
            assert_eq!(*map.get_or_set(key, || key), key);
        }
        assert_eq!(keys.map(|key| map.get(key).copied()), keys.map(Some));
        assert_eq!(map.get(4), None);
    }

    #[test]
    fn threads_that_set_the_same_key_agree() {
        let map = OnceMap::for_about(1_000);
        let set = |thread: u64| (0..1_000).map(|key| *map.get_or_set(key, || thread)).collect::<Vec<_>>();
        let results: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || set(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(results.iter().all(|result| *result == results[0]));
    }

    #[test]
    fn a_map_says_when_it_has_become_too_narrow() {
        let map = OnceMap::<u8>::for_about(100);
        assert!(map.has_room_for(512) && !map.has_room_for(513));
        assert!(OnceMap::<u8>::for_about(usize::MAX).has_room_for(usize::MAX));
    }

    proptest! {
        #[test]
        fn the_first_value_of_a_key_stays(steps in proptest::collection::vec((0u64..64, any::<u8>()), 0..200)) {
            let (map, mut model) = (OnceMap::for_about(0), HashMap::new());
            for (key, value) in steps {
                prop_assert_eq!(map.get_or_set(key, || value), model.entry(key).or_insert(value));
            }
            prop_assert!((0..64).all(|key| map.get(key) == model.get(&key)));
            let sorted = |mut values: Vec<u8>| {
                values.sort_unstable();
                values
            };
            prop_assert_eq!(sorted(map.iter().copied().collect()), sorted(model.into_values().collect()));
        }
    }
}
