//! A cache that forgets what was not used lately, and never all at once.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// A cache of two generations. New values go to the young one; when that is full, it becomes the old one, and the
/// old one before it is dropped. A value that is used while it is old becomes young again.
///
/// So the last `capacity` keys that were used are always there, and never more than twice as many. A hit in the young
/// generation costs one lookup, as in a plain map.
#[derive(Debug)]
pub(crate) struct TwoGenerationCache<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    capacity: usize,
}

impl<K: Hash + Eq, V> TwoGenerationCache<K, V> {
    /// Creates an empty cache whose generations hold `capacity` values each.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), capacity }
    }

    /// Applies `use_value` to the value of `key`, if it is cached.
    pub(crate) fn with<Q, R>(&mut self, key: &Q, use_value: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        // A closure, because a returned reference would keep the young generation borrowed while a value moves to it.
        if let Some(value) = self.young.get_mut(key) {
            return Some(use_value(value));
        }
        let (key, mut value) = self.old.remove_entry(key)?;
        let result = use_value(&mut value);
        self.insert(key, value);
        Some(result)
    }

    /// Caches a value, in the place of an earlier one of the same key.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity && !self.young.contains_key(&key) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl<K: Hash + Eq, V: Copy> TwoGenerationCache<K, V> {
        fn get(&mut self, key: &K) -> Option<V> {
            self.with(key, |value| *value)
        }
    }

    #[test]
    fn a_value_in_use_outlives_any_number_of_others() {
        let mut cache = TwoGenerationCache::new(100);
        cache.insert(0, 0);
        for key in 1..=10_000 {
            cache.insert(key, key);
            assert_eq!(cache.get(&0), Some(0), "after {key}");
        }
        assert_eq!(cache.get(&9_901), Some(9_901), "it is among the last hundred");
        assert_eq!(cache.get(&9_000), None);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8, u16),
        Get(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = 0u8..24;
        let step = prop_oneof![
            (key.clone(), any::<u16>()).prop_map(|(key, value)| Step::Insert(key, value)),
            key.prop_map(Step::Get),
        ];
        proptest::collection::vec(step, 0..300)
    }

    proptest! {
        /// Compares with a list of all keys that were used, the last used first.
        #[test]
        fn the_last_used_are_there_as_they_were_inserted(capacity in 1usize..8, steps in steps()) {
            let mut cache = TwoGenerationCache::new(capacity);
            let mut model: Vec<(u8, u16)> = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        cache.insert(key, value);
                        model.retain(|(other, _)| *other != key);
                        model.insert(0, (key, value));
                    }
                    Step::Get(key) => {
                        let got = cache.get(&key);
                        let Some(at) = model.iter().position(|(other, _)| *other == key) else {
                            prop_assert_eq!(got, None);
                            continue;
                        };
                        let used = model.remove(at);
                        match got {
                            Some(value) => {
                                prop_assert_eq!(value, used.1);
                                model.insert(0, used);
                            }
                            None => prop_assert!(at >= capacity, "{} was used lately", key),
                        }
                    }
                }
                prop_assert!(cache.young.len() <= capacity && cache.old.len() <= capacity);
            }
        }
    }
}
