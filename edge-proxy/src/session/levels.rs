//! Which log messages legacy sessions asked for, whichever edge was told. It must not know who logs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use trunkline::edge::v1::SessionEvent;

use super::{Conversation, Jti};

/// Past this, the ones that would expire first are forgotten: their clients hear what upstreams say unasked.
const MAX: usize = 65_536;

/// What each session asked for, as it is told to an edge that starts.
#[derive(Debug, Default)]
pub struct Levels(Mutex<HashMap<Jti, (u64, SessionEvent)>>);

impl Levels {
    /// Remembers what a session asked for last.
    pub fn set(&self, session: &Conversation, event: SessionEvent, now: u64) {
        let mut levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if levels.len() >= MAX && !levels.contains_key(&session.jti) {
            make_room(&mut levels, now);
        }
        levels.insert(session.jti, (session.expires, event));
    }

    /// What leads to what is remembered of sessions that have not expired.
    pub fn all(&self, now: u64) -> Vec<SessionEvent> {
        let levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        levels.values().filter(|(expires, _)| *expires > now).map(|(_, event)| event.clone()).collect()
    }

    /// Forgets a session.
    pub fn end(&self, jti: &Jti) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(jti);
    }
}

fn make_room(levels: &mut HashMap<Jti, (u64, SessionEvent)>, now: u64) {
    levels.retain(|_, (expires, _)| *expires > now);
    if levels.len() < MAX {
        return;
    }
    let mut ends: Vec<u64> = levels.values().map(|(expires, _)| *expires).collect();
    let (_, median, _) = ends.select_nth_unstable(MAX / 2);
    let median = *median;
    levels.retain(|_, (expires, _)| *expires > median);
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
        let level = |level: &str| event::level_set(&session, ["u"].into_iter(), level.as_bytes());
        levels.set(&session, level("\"debug\""), 0);
        levels.set(&session, level("\"error\""), 0);
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
            levels.set(&session, SessionEvent::default(), 0);
        }
        assert!(levels.all(0).len() <= MAX);
    }
}
