//! Which stale entries of an upstream are kept: those that are not too old, within a bound, and all that people changed. Pure.
//!
//! It must not know how entries are stored.

use std::time::Duration;

use crate::clock;

/// Stale entries of a kind that are kept for an upstream, besides those that people changed.
pub(super) const MAX_STALE: usize = 1_000;
/// The time for which a stale entry is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// An entry that its upstream no longer lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StaleEntry {
    /// The time since when it is stale, in microseconds.
    pub(super) since_us: i64,
    /// True if people disabled, labelled or applied it. It is kept until they delete it: otherwise an upstream that lists
    /// other names for a while could make a tool that was disabled return as a new one.
    pub(super) changed_by_people: bool,
}

/// Returns the entries that are to be deleted: those that are too old, and of the others the oldest that are too many.
pub(super) fn superfluous<T>(entries: Vec<(StaleEntry, T)>, now_us: i64) -> Vec<T> {
    let mut removable: Vec<_> = entries.into_iter().filter(|(entry, _)| !entry.changed_by_people).collect();
    removable.sort_by_key(|(entry, _)| entry.since_us);
    let oldest = now_us - clock::duration_us(KEPT);
    let expired = removable.partition_point(|(entry, _)| entry.since_us < oldest);
    let excess = removable.len().saturating_sub(MAX_STALE);
    removable.truncate(expired.max(excess));
    removable.into_iter().map(|(_, entry)| entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600 * 1_000_000;

    fn stale(since_us: i64) -> StaleEntry {
        StaleEntry { since_us, changed_by_people: false }
    }

    #[test]
    fn the_oldest_go_where_there_are_too_many() {
        let entries = (0..1_002).rev().map(|at| (stale(at), at)).collect();
        assert_eq!(superfluous(entries, DAY), [0, 1]);
    }

    #[test]
    fn what_is_stale_for_long_goes() {
        let entries = vec![(stale(DAY), "kept"), (stale(DAY - 1), "gone")];
        assert_eq!(superfluous(entries, 31 * DAY), ["gone"]);
    }

    #[test]
    fn what_people_changed_stays() {
        let changed = |since_us| StaleEntry { changed_by_people: true, ..stale(since_us) };
        let entries = (0..2_000).map(|at| (changed(at), at)).collect();
        assert_eq!(superfluous(entries, 400 * DAY), [0; 0]);
    }
}
