//! Which resources legacy sessions are subscribed to, whichever edge was told. It must not know upstreams or streams.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{Conversation, Jti};

/// Sessions whose subscriptions are remembered.
const MAX_SESSIONS: usize = 65_536;
/// Resources that one session may subscribe to.
pub const MAX_URIS: usize = 1_024;

/// Longest URI that a session may subscribe to, in bytes.
pub const MAX_URI_BYTES: usize = 4_096;

/// What one session is subscribed to, as the client spells it.
pub type Uris = Arc<BTreeSet<Box<str>>>;

/// What each session is subscribed to, until it ends.
#[derive(Debug, Default)]
pub struct Subscriptions(Mutex<HashMap<Jti, Entry>>);

/// What a session said about a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The resource, as the client spells it.
    pub uri: Box<str>,
    /// Whether it wants to hear of it.
    pub subscribed: bool,
    /// When it said so, in microseconds since the Unix epoch: what was said later counts, whenever it is heard.
    pub said_us: u64,
}

#[derive(Debug)]
struct Entry {
    uris: watch::Sender<Uris>,
    /// When each was last subscribed to or given up.
    said_us: HashMap<Box<str>, u64>,
    expires: u64,
}

impl Subscriptions {
    /// Takes what a session says here and now, unless there is no room for it. Says what the other edges are to know.
    pub fn change(&self, session: &Conversation, uri: &str, subscribed: bool, now_us: u64) -> Option<Change> {
        self.with(&session.jti, session.expires, now_us / 1_000_000, |entry| {
            // Later than what is known, also where it was said by a clock that is ahead.
            let said_us = entry.said_us.get(uri).map_or(now_us, |known| now_us.max(known + 1));
            let change = Change { uri: uri.into(), subscribed, said_us };
            entry.take(&change).then_some(change)
        })?
    }

    /// Takes what a session said elsewhere. False where there is no room for it.
    pub fn take(&self, jti: &Jti, expires: u64, change: &Change, now: u64) -> bool {
        self.with(jti, expires, now, |entry| entry.take(change)).unwrap_or(false)
    }

    /// What a session is subscribed to, now and later. `None` where there is no room to remember it.
    pub fn watch(&self, session: &Conversation, now: u64) -> Option<watch::Receiver<Uris>> {
        self.with(&session.jti, session.expires, now, |entry| entry.uris.subscribe())
    }

    /// What leads to what is known of sessions that have not expired, with when they will.
    pub fn all(&self, now: u64) -> Vec<(Jti, u64, Vec<Change>)> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = sessions.iter().filter(|(_, entry)| entry.expires > now);
        alive.map(|(jti, entry)| (*jti, entry.expires, entry.changes())).collect()
    }

    /// Forgets a session.
    pub fn end(&self, jti: &Jti) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(jti);
    }

    fn with<T>(&self, jti: &Jti, expires: u64, now: u64, then: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(jti) {
            sessions.retain(|_, entry| entry.expires > now && entry.is_of_use());
            if sessions.len() >= MAX_SESSIONS {
                return None;
            }
        }
        let fresh = || Entry { uris: watch::Sender::default(), said_us: HashMap::new(), expires };
        Some(then(sessions.entry(*jti).or_insert_with(fresh)))
    }
}

impl Entry {
    fn take(&mut self, change: &Change) -> bool {
        let Change { uri, subscribed, said_us } = change;
        if self.said_us.get(uri).is_some_and(|known| known >= said_us) {
            return true;
        }
        let (full, knows) = (self.uris.borrow().len() >= MAX_URIS, self.uris.borrow().contains(uri));
        if *subscribed && full && !knows {
            return false;
        }
        if self.said_us.len() >= 2 * MAX_URIS {
            let uris = self.uris.borrow().clone();
            self.said_us.retain(|uri, _| uris.contains(uri));
        }
        self.said_us.insert(uri.clone(), *said_us);
        self.uris.send_if_modified(|uris| {
            if *subscribed != knows {
                let uris = Arc::make_mut(uris);
                if *subscribed {
                    uris.insert(uri.clone())
                } else {
                    uris.remove(uri)
                };
            }
            *subscribed != knows
        });
        true
    }

    fn changes(&self) -> Vec<Change> {
        let uris = self.uris.borrow();
        let said = self.said_us.iter();
        said.map(|(uri, said_us)| Change {
            uri: uri.clone(),
            subscribed: uris.contains(uri),
            said_us: *said_us,
        })
        .collect()
    }

    fn is_of_use(&self) -> bool {
        !self.uris.borrow().is_empty() || self.uris.receiver_count() > 0
    }
}

#[cfg(test)]
mod tests {
    use mcp::revision::Revision;

    use super::*;
    use crate::session::capabilities::Capabilities;

    #[test]
    fn a_session_is_told_of_its_own_subscriptions_until_it_ends() {
        let subscriptions = Subscriptions::default();
        let begin = || Conversation::begin(Revision::V2025_11_25, Capabilities::default(), "c", 0, 10);
        let (mine, theirs) = (begin(), begin());
        let mut watch = subscriptions.watch(&mine, 0).unwrap();
        let say = |by: &Conversation, uri: &str, wants| subscriptions.change(by, uri, wants, 0);
        assert!(say(&mine, "a", true).is_some() && say(&theirs, "b", true).is_some());
        assert!(watch.has_changed().unwrap());
        assert_eq!(watch.borrow_and_update().iter().map(|uri| &**uri).collect::<Vec<_>>(), ["a"]);
        assert!(say(&mine, "a", true).is_some());
        assert!(!watch.has_changed().unwrap());
        assert!(say(&mine, "a", false).is_some());
        assert!(watch.borrow_and_update().is_empty());
        for number in 0..MAX_URIS {
            assert!(say(&mine, &number.to_string(), true).is_some());
        }
        assert!(say(&mine, "one more", true).is_none());
        assert_eq!(subscriptions.all(0).len(), 2);
        assert!(subscriptions.all(10).is_empty());
        subscriptions.end(&mine.jti);
        assert!(watch.has_changed().is_err());
    }
    /// Said at two edges whose clocks differ, and heard in any order.
    #[test]
    fn what_was_said_last_counts() {
        let session = Conversation::begin(Revision::V2025_11_25, Capabilities::default(), "c", 0, 10);
        let (first, second, third) =
            (Subscriptions::default(), Subscriptions::default(), Subscriptions::default());
        let subscribed = first.change(&session, "a", true, 900).unwrap();
        assert!(second.take(&session.jti, 10, &subscribed, 0));
        let given_up = second.change(&session, "a", false, 100).unwrap();
        assert_eq!((given_up.subscribed, given_up.said_us), (false, 901));
        for heard in [&given_up, &subscribed, &subscribed] {
            assert!(third.take(&session.jti, 10, heard, 0));
        }
        assert_eq!(third.all(0), [(session.jti, 10, vec![given_up])]);
        assert!(third.watch(&session, 0).unwrap().borrow().is_empty());
    }
}
