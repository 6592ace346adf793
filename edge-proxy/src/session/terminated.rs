//! Sessions that were terminated before they expired. It must not know who terminated them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::SessionId;
use super::owner::{SessionOwner, make_room};

/// Past this, sessions of those who have most are forgotten: their clients ended them themselves.
const MAX: usize = 262_144;

/// A session that was terminated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedSession {
    /// When it would have expired.
    pub expires: u64,
    /// Whose it was.
    pub owner: SessionOwner,
}

/// Sessions that were terminated, kept until they would have expired.
///
/// Calls read only a counter, and the set when that has moved.
#[derive(Debug, Default)]
pub struct TerminatedSessions {
    changes: AtomicU64,
    sessions: Mutex<HashMap<SessionId, EndedSession>>,
}

impl TerminatedSessions {
    /// Counts the sessions that were added.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Terminates a session on this edge.
    pub fn terminate(&self, session_id: SessionId, ended: EndedSession, now: u64) {
        let mut sessions = self.lock();
        if sessions.len() >= MAX {
            make_room(&mut sessions, MAX, now, |ended| (ended.owner, ended.expires));
        }
        sessions.insert(session_id, ended);
        drop(sessions);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Returns those that have not expired.
    pub fn all(&self, now: u64) -> Vec<(SessionId, EndedSession)> {
        let sessions = self.lock();
        let alive = sessions.iter().filter(|(_, ended)| ended.expires > now);
        alive.map(|(session_id, ended)| (*session_id, *ended)).collect()
    }

    /// Returns whether a session was terminated.
    pub fn contains(&self, session_id: &SessionId) -> bool {
        self.lock().contains_key(session_id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, EndedSession>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            // One of another owner, that would expire first.
            let owner = SessionOwner(u64::from(number > 0));
            terminated.terminate(session_id(number), EndedSession { expires: 1_000 + number, owner }, 0);
        }
        assert_eq!(terminated.changes(), MAX as u64 + 1);
        assert!(terminated.contains(&session_id(MAX as u64)));
        assert!(!terminated.contains(&session_id(MAX as u64 + 1)));
        assert!(terminated.contains(&session_id(0)) && !terminated.contains(&session_id(1)));
        assert!(terminated.all(0).len() <= MAX);
    }
}
