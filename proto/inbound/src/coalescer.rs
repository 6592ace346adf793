//! What happens again and again, told twice at most in a minute: at once, and at its end with how often. So nobody fills anything by
//! doing the same, and not by doing ever something else either.
//!
//! It must not know what happens.

use std::collections::HashMap;
use std::hash::Hash;

/// Events of which those that are alike are told together.
#[derive(Debug)]
pub struct Coalescer<K> {
    open: HashMap<K, Window>,
    most: usize,
    length_us: i64,
}

#[derive(Debug)]
struct Window {
    since_us: i64,
    last_us: i64,
    /// Events after the first one.
    more: u64,
}

/// Events that were alike, after the first one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated<K> {
    /// What they were.
    pub key: K,
    /// How many.
    pub count: u64,
    /// When the last one was, in microseconds.
    pub last_us: i64,
}

impl<K: Eq + Hash + Clone> Coalescer<K> {
    /// Tells apart so many kinds of events at one time, each for so long.
    pub fn new(most: usize, length_us: i64) -> Self {
        Self { open: HashMap::new(), most, length_us }
    }

    /// Notes an event. `other`: what it counts as where there are too many kinds. Returns what is to be told now: it, where it is the
    /// first of its kind.
    pub fn note(&mut self, key: K, other: impl FnOnce() -> K, now_us: i64) -> Option<K> {
        let key = if self.open.contains_key(&key) || self.open.len() < self.most { key } else { other() };
        if let Some(window) = self.open.get_mut(&key) {
            window.more += 1;
            window.last_us = now_us;
            return None;
        }
        self.open.insert(key.clone(), Window { since_us: now_us, last_us: now_us, more: 0 });
        Some(key)
    }

    /// Takes what was repeated in windows that are over; `all`: in all of them.
    pub fn take(&mut self, now_us: i64, all: bool) -> Vec<Repeated<K>> {
        let length_us = self.length_us;
        // A clock that was set back must not keep a window open.
        let is_over = |window: &Window| all || !(0..length_us).contains(&(now_us - window.since_us));
        let mut repeated = Vec::new();
        self.open.retain(|key, window| {
            let is_over = is_over(window);
            if is_over && window.more > 0 {
                repeated.push(Repeated { key: key.clone(), count: window.more, last_us: window.last_us });
            }
            !is_over
        });
        repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_at_the_end() {
        let mut events = Coalescer::new(10, 60);
        assert_eq!(events.note("a", || "other", 0), Some("a"));
        assert_eq!(events.note("b", || "other", 1), Some("b"));
        for now in 2..50 {
            assert_eq!(events.note("a", || "other", now), None);
        }
        assert!(events.take(59, false).is_empty());
        assert_eq!(events.take(60, false), [Repeated { key: "a", count: 48, last_us: 49 }]);
        assert!(events.take(61, false).is_empty(), "one event is told once");
        assert_eq!(events.note("a", || "other", 62), Some("a"));
    }

    #[test]
    fn ever_other_events_are_told_together() {
        let mut events = Coalescer::new(3, 60);
        let told = (0..1_000).filter_map(|number| events.note(number, || -1, 0)).collect::<Vec<_>>();
        assert_eq!(told, [0, 1, 2, -1]);
        assert_eq!(events.take(0, true), [Repeated { key: -1, count: 996, last_us: 0 }]);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let mut events = Coalescer::new(3, 60);
        events.note('a', || 'o', 1_000);
        events.note('a', || 'o', 1_000);
        assert_eq!(events.take(10, false).len(), 1);
    }
}
