//! Sessions that were terminated before they expired. It must not know who terminated them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::SessionId;

/// Past this, the sessions that would expire first are forgotten: their clients ended them themselves.
const MAX: usize = 262_144;

/// Sessions that were terminated, kept until they would have expired.
///
/// Calls read only a counter, and the set when that has moved.
#[derive(Debug, Default)]
pub struct TerminatedSessions {
    changes: AtomicU64,
    until: Mutex<HashMap<SessionId, u64>>,
}

impl TerminatedSessions {
    /// Counts the sessions that were added.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Terminates a session on this edge.
    pub fn terminate(&self, session_id: SessionId, expires: u64, now: u64) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= MAX {
            make_room(&mut until, now);
        }
        until.insert(session_id, expires);
        drop(until);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Returns those that have not expired, with the time when they will.
    pub fn all(&self, now: u64) -> Vec<(SessionId, u64)> {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until
            .iter()
            .filter(|(_, expires)| **expires > now)
            .map(|(session_id, expires)| (*session_id, *expires))
            .collect()
    }

    /// Returns whether a session was terminated.
    pub fn contains(&self, session_id: &SessionId) -> bool {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).contains_key(session_id)
    }
}

fn make_room(until: &mut HashMap<SessionId, u64>, now: u64) {
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
        let terminated = TerminatedSessions::default();
        let session_id = |number: u64| {
            let mut session_id = [0; 16];
            session_id[..8].copy_from_slice(&number.to_be_bytes());
            session_id
        };
        for number in 0..=MAX as u64 {
            terminated.terminate(session_id(number), 1_000 + number, 0);
        }
        assert_eq!(terminated.changes(), MAX as u64 + 1);
        assert!(terminated.contains(&session_id(MAX as u64)));
        assert!(!terminated.contains(&session_id(MAX as u64 + 1)));
        assert!(terminated.until.lock().unwrap().len() <= MAX);
    }
}
