//! The resources that legacy sessions are subscribed to, at whichever edge. It must not know upstreams or streams.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{Conversation, SessionId};

/// Sessions whose subscriptions are kept.
const MAX_SESSIONS: usize = 65_536;
/// Resources that one session may subscribe to.
pub const MAX_URIS: usize = 1_024;

/// The longest URI that a session may subscribe to, in bytes.
pub const MAX_URI_BYTES: usize = 4_096;

/// The resources that one session is subscribed to, as the client spells them.
pub type SubscribedUris = Arc<BTreeSet<Box<str>>>;

/// The subscriptions of each session, until it ends.
#[derive(Debug, Default)]
pub struct Subscriptions(Mutex<HashMap<SessionId, Entry>>);

/// A change of one subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionChange {
    /// The resource, as the client spells it.
    pub uri: Box<str>,
    /// True if the session is subscribed now.
    pub subscribed: bool,
    /// The time of the change, in microseconds since the Unix epoch: the latest counts, in whatever order they arrive.
    pub changed_us: u64,
}

#[derive(Debug)]
struct Entry {
    uris: watch::Sender<SubscribedUris>,
    /// The time of the last change of each.
    changed_us: HashMap<Box<str>, u64>,
    expires: u64,
}

impl Subscriptions {
    /// Changes a subscription here and now, unless there is no room. Returns the change for the siblings.
    pub fn change(
        &self,
        session: &Conversation,
        uri: &str,
        subscribed: bool,
        now_us: u64,
    ) -> Option<SubscriptionChange> {
        self.with(&session.session_id, session.expires, now_us / 1_000_000, |entry| {
            // Later than any known change, even one by a clock that is ahead.
            let changed_us = entry.changed_us.get(uri).map_or(now_us, |known| now_us.max(known + 1));
            let change = SubscriptionChange { uri: uri.into(), subscribed, changed_us };
            entry.take(&change).then_some(change)
        })?
    }

    /// Returns whether a session has subscribed to a resource, or had.
    pub fn knows(&self, session: &Conversation, uri: &str) -> bool {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&session.session_id).is_some_and(|entry| entry.changed_us.contains_key(uri))
    }

    /// Applies a change that was made at a sibling. Returns false if there is no room.
    pub fn take(&self, session_id: &SessionId, expires: u64, change: &SubscriptionChange, now: u64) -> bool {
        self.with(session_id, expires, now, |entry| entry.take(change)).unwrap_or(false)
    }

    /// Watches the subscriptions of a session. Returns `None` if there is no room.
    pub fn watch(&self, session: &Conversation, now: u64) -> Option<watch::Receiver<SubscribedUris>> {
        self.with(&session.session_id, session.expires, now, |entry| entry.uris.subscribe())
    }

    /// Returns the changes of sessions that have not expired, with the time when they will.
    pub fn all(&self, now: u64) -> Vec<(SessionId, u64, Vec<SubscriptionChange>)> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = sessions.iter().filter(|(_, entry)| entry.expires > now);
        alive.map(|(session_id, entry)| (*session_id, entry.expires, entry.changes())).collect()
    }

    /// Forgets a session.
    pub fn end(&self, session_id: &SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(session_id);
    }

    fn with<T>(
        &self,
        session_id: &SessionId,
        expires: u64,
        now: u64,
        then: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(session_id) {
            sessions.retain(|_, entry| entry.expires > now && entry.is_of_use());
            if sessions.len() >= MAX_SESSIONS {
                return None;
            }
        }
        let fresh = || Entry { uris: watch::Sender::default(), changed_us: HashMap::new(), expires };
        Some(then(sessions.entry(*session_id).or_insert_with(fresh)))
    }
}

impl Entry {
    fn take(&mut self, change: &SubscriptionChange) -> bool {
        let SubscriptionChange { uri, subscribed, changed_us } = change;
        if self.changed_us.get(uri).is_some_and(|known| known >= changed_us) {
            return true;
        }
        let (full, knows) = (self.uris.borrow().len() >= MAX_URIS, self.uris.borrow().contains(uri));
        if *subscribed && full && !knows {
            return false;
        }
        if self.changed_us.len() >= 2 * MAX_URIS {
            let uris = self.uris.borrow().clone();
            self.changed_us.retain(|uri, _| uris.contains(uri));
        }
        self.changed_us.insert(uri.clone(), *changed_us);
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

    fn changes(&self) -> Vec<SubscriptionChange> {
        let uris = self.uris.borrow();
        let times = self.changed_us.iter();
        times
            .map(|(uri, changed_us)| SubscriptionChange {
                uri: uri.clone(),
                subscribed: uris.contains(uri),
                changed_us: *changed_us,
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
        let set = |by: &Conversation, uri: &str, wants| subscriptions.change(by, uri, wants, 0);
        assert!(set(&mine, "a", true).is_some() && set(&theirs, "b", true).is_some());
        assert!(watch.has_changed().unwrap());
        assert_eq!(watch.borrow_and_update().iter().map(|uri| &**uri).collect::<Vec<_>>(), ["a"]);
        assert!(set(&mine, "a", true).is_some());
        assert!(!watch.has_changed().unwrap());
        assert!(set(&mine, "a", false).is_some());
        assert!(watch.borrow_and_update().is_empty());
        for number in 0..MAX_URIS {
            assert!(set(&mine, &number.to_string(), true).is_some());
        }
        assert!(set(&mine, "one more", true).is_none());
        assert_eq!(subscriptions.all(0).len(), 2);
        assert!(subscriptions.all(10).is_empty());
        subscriptions.end(&mine.session_id);
        assert!(watch.has_changed().is_err());
    }
    /// Two edges whose clocks differ, and events in any order.
    #[test]
    fn the_last_message_of_a_session_counts() {
        let session = Conversation::begin(Revision::V2025_11_25, Capabilities::default(), "c", 0, 10);
        let (first, second, third) =
            (Subscriptions::default(), Subscriptions::default(), Subscriptions::default());
        let subscribed = first.change(&session, "a", true, 900).unwrap();
        assert!(second.take(&session.session_id, 10, &subscribed, 0));
        let given_up = second.change(&session, "a", false, 100).unwrap();
        assert_eq!((given_up.subscribed, given_up.changed_us), (false, 901));
        for change in [&given_up, &subscribed, &subscribed] {
            assert!(third.take(&session.session_id, 10, change, 0));
        }
        assert_eq!(third.all(0), [(session.session_id, 10, vec![given_up])]);
        assert!(third.watch(&session, 0).unwrap().borrow().is_empty());
    }
}
