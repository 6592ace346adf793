//! Which log messages legacy sessions asked for, whichever edge was told. It must not know who logs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use trunkline::edge::v1::SessionEvent;

use super::{Conversation, Jti};

/// Past this, the ones that would expire first are forgotten: their clients hear what upstreams say unasked.
const MAX: usize = 65_536;

/// What each session asked for, as it is told to an edge that starts.
#[derive(Debug, Default)]
pub struct Levels(Mutex<HashMap<Jti, Asked>>);

#[derive(Debug)]
struct Asked {
    event: SessionEvent,
    /// When it did, in microseconds since the Unix epoch: what was said later counts, whenever it is heard.
    said_us: u64,
    expires: u64,
}

impl Levels {
    /// The time of what a session asks for here and now: later than what is known.
    pub fn next(&self, jti: &Jti, now_us: u64) -> u64 {
        let levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        levels.get(jti).map_or(now_us, |asked| now_us.max(asked.said_us + 1))
    }

    /// Remembers what a session asked for last. False for what it asked before that.
    pub fn set(&self, session: &Conversation, event: SessionEvent, said_us: u64, now: u64) -> bool {
        let mut levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if levels.get(&session.jti).is_some_and(|asked| asked.said_us >= said_us) {
            return false;
        }
        if levels.len() >= MAX && !levels.contains_key(&session.jti) {
            make_room(&mut levels, now);
        }
        levels.insert(session.jti, Asked { event, said_us, expires: session.expires });
        true
    }

    /// What leads to what is remembered of sessions that have not expired.
    pub fn all(&self, now: u64) -> Vec<SessionEvent> {
        let levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        levels.values().filter(|asked| asked.expires > now).map(|asked| asked.event.clone()).collect()
    }

    /// Forgets a session.
    pub fn end(&self, jti: &Jti) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(jti);
    }
}

fn make_room(levels: &mut HashMap<Jti, Asked>, now: u64) {
    levels.retain(|_, asked| asked.expires > now);
    if levels.len() < MAX {
        return;
    }
    let mut ends: Vec<u64> = levels.values().map(|asked| asked.expires).collect();
    let (_, median, _) = ends.select_nth_unstable(MAX / 2);
    let median = *median;
    levels.retain(|_, asked| asked.expires > median);
}

#[cfg(test)]
mod tests {
    use mcp::revision::Revision;

    use super::*;
    use crate::session::capabilities::Capabilities;
    use crate::session::event;

    #[test]
    fn the_last_level_of_a_session_is_remembered_until_it_ends() {
        let levels = Levels::default();
        let session = Conversation::begin(Revision::V2025_11_25, Capabilities::default(), "c", 0, 10);
        let level = |level: &str| event::level_set(&session, ["u"].into_iter(), level.as_bytes(), 0);
        assert!(levels.set(&session, level("\"debug\""), 5, 0));
        assert_eq!((levels.next(&session.jti, 3), levels.next(&session.jti, 9)), (6, 9));
        assert!(levels.set(&session, level("\"error\""), 6, 0));
        assert!(!levels.set(&session, level("\"debug\""), 5, 0));
        assert_eq!(levels.all(0), [level("\"error\"")]);
        assert!(levels.all(10).is_empty());
        levels.end(&session.jti);
        assert!(levels.all(0).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let levels = Levels::default();
        for lifetime in 0..=MAX as u64 {
            let session =
                Conversation::begin(Revision::V2025_11_25, Capabilities::default(), "c", 0, lifetime);
            levels.set(&session, SessionEvent::default(), 1, 0);
        }
        assert!(levels.all(0).len() <= MAX);
    }
}
