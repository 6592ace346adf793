//! Whose a session is, and whose entries give way where a map of sessions has no more room: of those who have most, what
//! expires first. It must not know what is kept.

use std::collections::HashMap;

use super::SessionId;

/// The principal whose a session is, as a number that is the same at every edge. Who has which uid is nobody's choice, so
/// nobody can choose whose number to share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SessionOwner(pub u64);

impl SessionOwner {
    /// The number of the principal with this uid (FNV-1a, 64 bits).
    pub fn of(principal: &str) -> Self {
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(principal.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
    }
}

/// Makes room in a map that may hold `max` entries: removes those that have expired and, where that is not enough, an
/// eighth of all from the owners who have most. `of` names the owner of an entry and when it expires.
pub(super) fn make_room<V>(
    entries: &mut HashMap<SessionId, V>,
    max: usize,
    now: u64,
    of: impl Fn(&V) -> (SessionOwner, u64),
) {
    entries.retain(|_, entry| of(entry).1 > now);
    if entries.len() < max {
        return;
    }
    let mut ends: HashMap<SessionOwner, Vec<u64>> = HashMap::new();
    for (owner, expires) in entries.values().map(&of) {
        ends.entry(owner).or_default().push(expires);
    }
    let surplus = entries.len() - max + (max / 8).max(1);
    let counts: Vec<usize> = ends.values().map(Vec::len).collect();
    let kept = level(&counts, surplus);
    // So many lose one more.
    let mut more = surplus - too_many(&counts, kept);
    let mut last_gone: HashMap<SessionOwner, u64> = HashMap::new();
    for (owner, mut ends) in ends {
        let one = usize::from(ends.len() >= kept && more > 0);
        more -= one;
        let gone = ends.len().saturating_sub(kept) + one;
        if let Some(last) = gone.checked_sub(1) {
            last_gone.insert(owner, *ends.select_nth_unstable(last).1);
        }
    }
    entries.retain(|_, entry| {
        let (owner, expires) = of(entry);
        last_gone.get(&owner).is_none_or(|last| expires > *last)
    });
}

/// The least that each may keep so that fewer than `surplus` are too many in all.
fn level(counts: &[usize], surplus: usize) -> usize {
    let (mut low, mut high) = (0, counts.iter().copied().max().unwrap_or_default());
    while high > low + 1 {
        let middle = low.midpoint(high);
        *(if too_many(counts, middle) >= surplus { &mut low } else { &mut high }) = middle;
    }
    high
}

fn too_many(counts: &[usize], kept: usize) -> usize {
    counts.iter().map(|count| count.saturating_sub(kept)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Entries of owners, each with another expiry.
    fn entries(counts: &[usize]) -> HashMap<SessionId, (SessionOwner, u64)> {
        let owners = counts.iter().enumerate().flat_map(|(owner, count)| std::iter::repeat_n(owner, *count));
        let numbered = owners.zip(1u64..);
        numbered
            .map(|(owner, number)| (u128::from(number).to_be_bytes(), (SessionOwner(owner as u64), number)))
            .collect()
    }

    fn counts(entries: &HashMap<SessionId, (SessionOwner, u64)>, owners: usize) -> Vec<usize> {
        let count = |owner| entries.values().filter(|entry| entry.0 == SessionOwner(owner as u64)).count();
        (0..owners).map(count).collect()
    }

    #[test]
    fn those_who_have_most_lose_what_expires_first() {
        let mut kept = entries(&[1, 60, 19]);
        make_room(&mut kept, 80, 0, |entry| *entry);
        assert_eq!(counts(&kept, 3), [1, 50, 19]);
        assert!(kept.values().all(|(_, number)| *number == 1 || *number > 11));
        let mut expired = entries(&[1, 60, 19]);
        make_room(&mut expired, 80, 1, |entry| *entry);
        assert_eq!(counts(&expired, 3), [0, 60, 19], "what has expired is enough");
    }

    #[test]
    fn the_number_of_an_owner_is_the_same_everywhere() {
        assert_eq!(SessionOwner::of(""), SessionOwner(0xcbf2_9ce4_8422_2325));
        assert_eq!(SessionOwner::of("foobar"), SessionOwner(0x8594_4171_f739_67e8));
    }

    proptest! {
        #[test]
        fn there_is_room_and_whoever_has_less_loses_no_more(all in prop::collection::vec(0usize..20, 1..10)) {
            let max = all.iter().sum::<usize>().max(1);
            let mut kept = entries(&all);
            make_room(&mut kept, max, 0, |entry| *entry);
            let left = counts(&kept, all.len());
            if all.iter().sum::<usize>() > 0 {
                prop_assert_eq!(kept.len(), max - (max / 8).max(1));
            }
            for (before, after) in all.iter().zip(&left) {
                // Who lost any still has as much as everybody else, but for one.
                prop_assert!(before == after || left.iter().all(|other| *other <= after + 1), "{all:?} {left:?}");
            }
        }
    }
}
