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

#[derive(Debug)]
struct Entry {
    uris: watch::Sender<Uris>,
    expires: u64,
}

impl Subscriptions {
    /// Subscribes a session, unless there is no room for it.
    pub fn add(&self, jti: &Jti, expires: u64, uri: &str, now: u64) -> bool {
        self.with(jti, expires, now, |entry| {
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
        self.with(&session.jti, session.expires, now, |entry| entry.uris.subscribe())
    }

    /// What every session is subscribed to that has not expired, with when it will.
    pub fn all(&self, now: u64) -> Vec<(Jti, u64, Uris)> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let subscribed = sessions.iter().filter(|(_, entry)| entry.expires > now);
        subscribed.map(|(jti, entry)| (*jti, entry.expires, Uris::clone(&entry.uris.borrow()))).collect()
    }

    /// Forgets a session.
    pub fn end(&self, jti: &Jti) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(jti);
    }

    fn with<T>(&self, jti: &Jti, expires: u64, now: u64, then: impl FnOnce(&Entry) -> T) -> Option<T> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(jti) {
            sessions.retain(|_, entry| entry.expires > now && entry.is_of_use());
            if sessions.len() >= MAX_SESSIONS {
                return None;
            }
        }
        let fresh = || Entry { uris: watch::Sender::default(), expires };
        Some(then(sessions.entry(*jti).or_insert_with(fresh)))
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
        let add = |to: &Conversation, uri: &str| subscriptions.add(&to.jti, to.expires, uri, 0);
        assert!(add(&mine, "a") && add(&theirs, "b"));
        assert!(watch.has_changed().unwrap());
        assert_eq!(watch.borrow_and_update().iter().map(|uri| &**uri).collect::<Vec<_>>(), ["a"]);
        assert!(add(&mine, "a"));
        assert!(!watch.has_changed().unwrap());
        subscriptions.remove(&mine.jti, "a");
        assert!(watch.borrow_and_update().is_empty());
        for number in 0..MAX_URIS {
            assert!(add(&mine, &number.to_string()));
        }
        assert!(!add(&mine, "one more"));
        assert_eq!(subscriptions.all(0).len(), 2);
        assert!(subscriptions.all(10).is_empty());
        subscriptions.end(&mine.jti);
        assert!(watch.has_changed().is_err());
    }
}
