//! Sessions that ended before their time. It must not know who ended them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Jti;

/// Past this, the ones that would expire first are forgotten: their clients ended them themselves.
const MAX: usize = 262_144;

/// Sessions that ended before their time, until they would have expired.
///
/// Calls look only at a counter, and at the set when it moved.
#[derive(Debug, Default)]
pub struct Terminated {
    changes: AtomicU64,
    until: Mutex<HashMap<Jti, u64>>,
}

impl Terminated {
    /// Moves whenever a session is added.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Ends a session on this edge.
    pub fn terminate(&self, jti: Jti, expires: u64, now: u64) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= MAX {
            make_room(&mut until, now);
        }
        until.insert(jti, expires);
        drop(until);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Those that have not expired, with when they will.
    pub fn all(&self, now: u64) -> Vec<(Jti, u64)> {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.iter().filter(|(_, expires)| **expires > now).map(|(jti, expires)| (*jti, *expires)).collect()
    }

    /// Whether a session was ended.
    pub fn contains(&self, jti: &Jti) -> bool {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).contains_key(jti)
    }
}

fn make_room(until: &mut HashMap<Jti, u64>, now: u64) {
    until.retain(|_, expires| *expires > now);
    if until.len() < MAX {
        return;
    }
    let mut ends: Vec<u64> = until.values().copied().collect();
    let (_, median, _) = ends.select_nth_unstable(MAX / 2);
    let median = *median;
    until.retain(|_, expires| *expires > median);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_stays_ended_and_the_set_stays_bounded() {
        let terminated = Terminated::default();
        let jti = |number: u64| {
            let mut jti = [0; 16];
            jti[..8].copy_from_slice(&number.to_be_bytes());
            jti
        };
        for number in 0..=MAX as u64 {
            terminated.terminate(jti(number), 1_000 + number, 0);
        }
        assert_eq!(terminated.changes(), MAX as u64 + 1);
        assert!(terminated.contains(&jti(MAX as u64)));
        assert!(!terminated.contains(&jti(MAX as u64 + 1)));
        assert!(terminated.until.lock().unwrap().len() <= MAX);
    }
}
