//! The log levels that legacy sessions have set, at whichever edge. It must not know who logs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use trunkline::edge::v1::SessionEvent;

use super::owner::{SessionOwner, make_room};
use super::{Conversation, SessionId};

/// Past this, sessions of those who have most are forgotten: their clients get messages of every level.
const MAX: usize = 65_536;

/// The last level of each session, as the event that sends it to a sibling.
#[derive(Debug, Default)]
pub struct LogLevels(Mutex<HashMap<SessionId, StoredLevel>>);

#[derive(Debug)]
struct StoredLevel {
    event: SessionEvent,
    /// The time of setting, in microseconds since the Unix epoch: the latest counts, in whatever order events arrive.
    changed_us: u64,
    expires: u64,
    owner: SessionOwner,
}

impl LogLevels {
    /// The time for a level that is set here and now: later than any known.
    pub fn next(&self, session_id: &SessionId, now_us: u64) -> u64 {
        let levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        levels.get(session_id).map_or(now_us, |stored| now_us.max(stored.changed_us + 1))
    }

    /// Stores the level that a session of `owner` set last. Returns false for one that is older than the known.
    pub fn set(
        &self,
        session: &Conversation,
        owner: SessionOwner,
        event: SessionEvent,
        changed_us: u64,
        now: u64,
    ) -> bool {
        let mut levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if levels.get(&session.session_id).is_some_and(|stored| stored.changed_us >= changed_us) {
            return false;
        }
        if levels.len() >= MAX && !levels.contains_key(&session.session_id) {
            make_room(&mut levels, MAX, now, |stored| (stored.owner, stored.expires));
        }
        let stored = StoredLevel { event, changed_us, expires: session.expires, owner };
        levels.insert(session.session_id, stored);
        true
    }

    /// Returns the events of sessions that have not expired.
    pub fn all(&self, now: u64) -> Vec<SessionEvent> {
        let levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        levels.values().filter(|stored| stored.expires > now).map(|stored| stored.event.clone()).collect()
    }

    /// Forgets a session.
    pub fn end(&self, session_id: &SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(session_id);
    }
}

#[cfg(test)]
mod tests {
    use mcp::revision::Revision;

    use super::*;
    use crate::session::capabilities::Capabilities;
    use crate::session::event;

    #[test]
    fn the_last_level_of_a_session_is_remembered_until_it_ends() {
        let levels = LogLevels::default();
        let session = Conversation::begin(Revision::V2025_11_25, Capabilities::default(), "c", 0, 10);
        let owner = SessionOwner(7);
        let level = |level: &str| event::level_set(&session, owner, ["u"].into_iter(), level.as_bytes(), 0);
        assert!(levels.set(&session, owner, level("\"debug\""), 5, 0));
        assert_eq!((levels.next(&session.session_id, 3), levels.next(&session.session_id, 9)), (6, 9));
        assert!(levels.set(&session, owner, level("\"error\""), 6, 0));
        assert!(!levels.set(&session, owner, level("\"debug\""), 5, 0));
        assert_eq!(levels.all(0), [level("\"error\"")]);
        assert!(levels.all(10).is_empty());
        levels.end(&session.session_id);
        assert!(levels.all(0).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (levels, event) = (LogLevels::default(), SessionEvent::default());
        let begin =
            |lifetime| Conversation::begin(Revision::V2025_11_25, Capabilities::default(), "c", 0, lifetime);
        // One of another owner, that would expire first.
        let other = begin(1);
        levels.set(&other, SessionOwner(1), event.clone(), 5, 0);
        for lifetime in 2..=MAX as u64 {
            levels.set(&begin(lifetime), SessionOwner(2), event.clone(), 1, 0);
        }
        levels.set(&begin(9), SessionOwner(2), event, 1, 0);
        assert!(levels.all(0).len() < MAX);
        assert_eq!(levels.next(&other.session_id, 0), 6, "what it set is still known");
    }
}
