//! Which resources the legacy sessions of this edge are subscribed to. It must not know upstreams or streams.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{Conversation, Jti};

/// Sessions whose subscriptions are remembered.
const MAX_SESSIONS: usize = 65_536;
/// Resources that one session may subscribe to.
pub const MAX_URIS: usize = 1_024;

/// What one session is subscribed to, as the client spells it.
pub type Uris = Arc<BTreeSet<Box<str>>>;

/// What each session is subscribed to, until it ends.
#[derive(Debug, Default)]
pub struct Subscriptions(Mutex<HashMap<Jti, Entry>>);

#[derive(Debug)]
struct Entry {
    uris: watch::Sender<Uris>,
    expires: u64,
}

impl Subscriptions {
    /// Subscribes a session, unless there is no room for it.
    pub fn add(&self, session: &Conversation, uri: &str, now: u64) -> bool {
        self.with(session, now, |entry| {
            entry
                .uris
                .send_if_modified(|uris| uris.len() < MAX_URIS && Arc::make_mut(uris).insert(uri.into()));
            entry.uris.borrow().contains(uri)
        })
        .unwrap_or(false)
    }

    /// Unsubscribes a session.
    pub fn remove(&self, jti: &Jti, uri: &str) {
        if let Some(entry) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(jti) {
            entry.uris.send_if_modified(|uris| uris.contains(uri) && Arc::make_mut(uris).remove(uri));
        }
    }

    /// What a session is subscribed to, now and later. `None` where there is no room to remember it.
    pub fn watch(&self, session: &Conversation, now: u64) -> Option<watch::Receiver<Uris>> {
        self.with(session, now, |entry| entry.uris.subscribe())
    }

    /// Forgets a session.
    pub fn end(&self, jti: &Jti) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(jti);
    }

    fn with<T>(&self, session: &Conversation, now: u64, then: impl FnOnce(&Entry) -> T) -> Option<T> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(&session.jti) {
            sessions.retain(|_, entry| entry.expires > now && entry.is_of_use());
            if sessions.len() >= MAX_SESSIONS {
                return None;
            }
        }
        let fresh = || Entry { uris: watch::Sender::default(), expires: session.expires };
        Some(then(sessions.entry(session.jti).or_insert_with(fresh)))
    }
}

impl Entry {
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
        assert!(subscriptions.add(&mine, "a", 0) && subscriptions.add(&theirs, "b", 0));
        assert!(watch.has_changed().unwrap());
        assert_eq!(watch.borrow_and_update().iter().map(|uri| &**uri).collect::<Vec<_>>(), ["a"]);
        assert!(subscriptions.add(&mine, "a", 0));
        assert!(!watch.has_changed().unwrap());
        subscriptions.remove(&mine.jti, "a");
        assert!(watch.borrow_and_update().is_empty());
        for number in 0..MAX_URIS {
            assert!(subscriptions.add(&mine, &number.to_string(), 0));
        }
        assert!(!subscriptions.add(&mine, "one more", 0));
        subscriptions.end(&mine.jti);
        assert!(watch.has_changed().is_err());
    }
}
