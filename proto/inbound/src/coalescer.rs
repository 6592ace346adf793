//! What happens again and again, told twice at most in a minute: at once, and at its end with how often. So nobody fills anything by
//! doing the same, and not by doing ever something else either; nor hides anybody what others do.
//!
//! It must not know what happens.

use std::collections::HashMap;
use std::hash::Hash;

/// Something that happens again and again.
pub trait Recurring: Eq + Hash + Clone {
    /// Who does it.
    type Actor: Eq + Hash + Clone;

    /// Who does this.
    fn actor(&self) -> Self::Actor;

    /// What it counts as where who does it has done too many kinds of things.
    fn of_many(&self) -> Self;

    /// What it counts as where all together have.
    fn other(&self) -> Self;
}

/// Events of which those that are alike are told together.
#[derive(Debug)]
pub struct Coalescer<E: Recurring> {
    open: HashMap<E, Window>,
    /// How many kinds of each actor are open.
    kinds: HashMap<E::Actor, usize>,
    most: usize,
    most_of_one: usize,
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

impl<E: Recurring> Coalescer<E> {
    /// Tells apart so many kinds of events at one time, and so many of one actor, each for so long.
    pub fn new(most: usize, most_of_one: usize, length_us: i64) -> Self {
        Self { open: HashMap::new(), kinds: HashMap::new(), most, most_of_one, length_us }
    }

    /// Notes an event. Returns what is to be told now: it, where it is the first of its kind.
    pub fn note(&mut self, event: E, now_us: i64) -> Option<E> {
        let event = self.counted_as(event);
        if let Some(window) = self.open.get_mut(&event) {
            window.more += 1;
            window.last_us = now_us;
            return None;
        }
        self.open.insert(event.clone(), Window { since_us: now_us, last_us: now_us, more: 0 });
        *self.kinds.entry(event.actor()).or_default() += 1;
        Some(event)
    }

    /// One actor makes no more than a share of the kinds, so that it does not hide what others do.
    fn counted_as(&self, event: E) -> E {
        if self.open.contains_key(&event) {
            return event;
        }
        let is_too_many = self.kinds.get(&event.actor()).is_some_and(|kinds| *kinds >= self.most_of_one);
        let event = if is_too_many { event.of_many() } else { event };
        let has_room = self.open.len() < self.most || self.open.contains_key(&event);
        if has_room { event } else { event.other() }
    }

    /// Takes what was repeated in windows that are over; `all`: in all of them.
    pub fn take(&mut self, now_us: i64, all: bool) -> Vec<Repeated<E>> {
        let length_us = self.length_us;
        // A clock that was set back must not keep a window open.
        let is_over = |window: &Window| all || !(0..length_us).contains(&(now_us - window.since_us));
        let (mut repeated, kinds) = (Vec::new(), &mut self.kinds);
        self.open.retain(|event, window| {
            let is_over = is_over(window);
            if is_over {
                forget(kinds, &event.actor());
            }
            if is_over && window.more > 0 {
                repeated.push(Repeated { key: event.clone(), count: window.more, last_us: window.last_us });
            }
            !is_over
        });
        repeated
    }
}

fn forget<A: Eq + Hash>(kinds: &mut HashMap<A, usize>, actor: &A) {
    if let Some(count) = kinds.get_mut(actor) {
        *count -= 1;
        if *count == 0 {
            kinds.remove(actor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who, and what; -1: what is too much.
    impl Recurring for (&'static str, i32) {
        type Actor = &'static str;

        fn actor(&self) -> &'static str {
            self.0
        }

        fn of_many(&self) -> Self {
            (self.0, -1)
        }

        fn other(&self) -> Self {
            ("other", -1)
        }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_at_the_end() {
        let mut events = Coalescer::new(10, 10, 60);
        assert_eq!(events.note(("a", 1), 0), Some(("a", 1)));
        assert_eq!(events.note(("a", 2), 1), Some(("a", 2)));
        for now in 2..50 {
            assert_eq!(events.note(("a", 1), now), None);
        }
        assert!(events.take(59, false).is_empty());
        assert_eq!(events.take(60, false), [Repeated { key: ("a", 1), count: 48, last_us: 49 }]);
        assert!(events.take(61, false).is_empty(), "one event is told once");
        assert_eq!(events.note(("a", 1), 62), Some(("a", 1)));
    }

    #[test]
    fn ever_other_events_of_one_are_told_together_and_hide_nothing_of_others() {
        let mut events = Coalescer::new(10, 3, 60);
        let told: Vec<_> = (0..1_000).filter_map(|number| events.note(("a", number), 0)).collect();
        assert_eq!(told, [("a", 0), ("a", 1), ("a", 2), ("a", -1)]);
        assert_eq!(events.note(("b", 0), 0), Some(("b", 0)));
        assert_eq!(events.note(("a", 0), 0), None, "what is known goes on being counted");
        let mut rest = events.take(0, true);
        rest.sort_by_key(|repeated| repeated.key);
        let of = |number, count| Repeated { key: ("a", number), count, last_us: 0 };
        assert_eq!(rest, [of(-1, 996), of(0, 1)]);
        assert_eq!(events.note(("a", 7), 61), Some(("a", 7)), "and anew when the time is over");
        assert!(events.take(200, false).is_empty() && events.kinds.is_empty(), "nothing is left of whom");
    }

    #[test]
    fn ever_other_actors_are_told_together() {
        let mut events = Coalescer::new(3, 2, 60);
        let who = ["a", "b", "c", "d", "e"];
        let told: Vec<_> = who.into_iter().filter_map(|who| events.note((who, 0), 0)).collect();
        assert_eq!(told, [("a", 0), ("b", 0), ("c", 0), ("other", -1)]);
        assert_eq!(events.take(0, true), [Repeated { key: ("other", -1), count: 1, last_us: 0 }]);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let mut events = Coalescer::new(3, 3, 60);
        events.note(("a", 1), 1_000);
        events.note(("a", 1), 1_000);
        assert_eq!(events.take(10, false).len(), 1);
    }
}
