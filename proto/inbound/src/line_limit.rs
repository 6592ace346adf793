//! A bound on log lines that somebody causes who has proved nothing: such lines must not fill a disk, nor hide the others.
//!
//! It must not know what is logged.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines of one key.
const INTERVAL: Duration = Duration::from_secs(60);
/// Keys that have lines of their own within an interval; further ones share the lines of one more.
const MAX_KEYS: usize = 128;

/// Decides which of many equal log lines is written: for each key, such as an address, the first one, and then one a minute
/// that says how many it stands for. However many keys there are, at most 129 lines a minute are written.
#[derive(Debug, Default)]
pub struct LineLimit<K> {
    lines: Mutex<Lines<K>>,
}

#[derive(Debug)]
struct Lines<K> {
    of_keys: BTreeMap<K, Line>,
    of_others: Option<Line>,
}

/// The last line that was written.
#[derive(Debug)]
struct Line {
    written: Instant,
    /// Occurrences since.
    unwritten: u64,
}

impl<K> Default for Lines<K> {
    fn default() -> Self {
        Self { of_keys: BTreeMap::new(), of_others: None }
    }
}

impl<K: Ord> LineLimit<K> {
    /// Creates a limit under which nothing was written yet.
    pub const fn new() -> Self {
        Self { lines: Mutex::new(Lines { of_keys: BTreeMap::new(), of_others: None }) }
    }

    /// Counts an occurrence. Returns how many the line stands for that is to be written now, this one included. `None`: none is.
    pub fn count(&self, key: K) -> Option<u64> {
        self.count_at(key, Instant::now())
    }

    fn count_at(&self, key: K, now: Instant) -> Option<u64> {
        let mut lines = self.lines();
        if let Some(line) = lines.of_keys.get_mut(&key) {
            return line.count(now);
        }
        if lines.of_keys.len() >= MAX_KEYS {
            lines.of_keys.retain(|_, line| !line.is_due(now));
        }
        if lines.of_keys.len() < MAX_KEYS {
            lines.of_keys.insert(key, Line { written: now, unwritten: 0 });
            return Some(1);
        }
        match &mut lines.of_others {
            Some(line) => line.count(now),
            none => {
                *none = Some(Line { written: now, unwritten: 0 });
                Some(1)
            }
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines<K>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.written) >= INTERVAL
    }

    fn count(&mut self, now: Instant) -> Option<u64> {
        self.unwritten += 1;
        if !self.is_due(now) {
            return None;
        }
        self.written = now;
        Some(std::mem::take(&mut self.unwritten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_a_line_at_once_and_then_one_a_minute_that_counts_the_others() {
        let (limit, start) = (LineLimit::new(), Instant::now());
        assert_eq!(limit.count_at("a", start), Some(1));
        for second in 0..60 {
            assert_eq!(limit.count_at("a", start + Duration::from_secs(second)), None);
        }
        assert_eq!(limit.count_at("b", start), Some(1), "another key has lines of its own");
        assert_eq!(limit.count_at("a", start + INTERVAL), Some(61));
        assert_eq!(limit.count_at("a", start + INTERVAL), None);
        assert_eq!(limit.count_at("a", start + INTERVAL * 3), Some(2));
    }

    #[test]
    fn many_keys_have_no_more_lines_than_a_few() {
        let (limit, start) = (LineLimit::new(), Instant::now());
        let lines = |at: Instant, keys: std::ops::Range<usize>| {
            keys.filter_map(|key| limit.count_at(key, at)).collect::<Vec<u64>>()
        };
        assert_eq!(lines(start, 0..10_000), vec![1; MAX_KEYS + 1]);
        assert_eq!(lines(start, 0..10_000), [0; 0]);
        assert!(limit.lines().of_keys.len() <= MAX_KEYS);
        // A minute later there is room for others, and nothing was kept of those before.
        let later = lines(start + INTERVAL, 20_000..30_000);
        assert_eq!(later.len(), MAX_KEYS + 1);
        assert!(limit.lines().of_keys.len() <= MAX_KEYS);
    }
}
