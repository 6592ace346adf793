//! The resources that legacy sessions are subscribed to, at whichever edge. It must not know upstreams or streams.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inbound::Holder;
use tokio::sync::watch;

use super::{Conversation, SessionId};
use crate::collections::{NoRoom, SharedMap};

/// Sessions whose subscriptions are kept.
const MAX_SESSIONS: usize = 65_536;
/// Resources that one session may subscribe to.
pub const MAX_URIS: usize = 1_024;

/// The longest URI that a session may subscribe to, in bytes.
pub const MAX_URI_BYTES: usize = 4_096;

/// The resources that one session is subscribed to, as the client spells them.
pub type SubscribedUris = Arc<BTreeSet<Box<str>>>;

/// The subscriptions of each session, until it ends.
#[derive(Debug)]
pub struct Subscriptions(Mutex<SharedMap<SessionId, Entry>>);

/// The session that subscribes.
#[derive(Debug, Clone, Copy)]
pub struct SubscribingSession<'a> {
    /// The session.
    pub session_id: &'a SessionId,
    /// The time of its end, in seconds since the Unix epoch.
    pub expires: u64,
    /// The uid of its principal.
    pub principal: &'a str,
}

/// The reason for which a subscription is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotKept {
    /// The session has `MAX_URIS` already.
    TooManyUris,
    /// There is no room for the session.
    NoRoom(NoRoom),
}

/// What one session is subscribed to.
#[derive(Debug, PartialEq, Eq)]
pub struct SessionSubscriptions {
    /// The session.
    pub session_id: SessionId,
    /// The time of its end, in seconds since the Unix epoch.
    pub expires: u64,
    /// The uid of its principal.
    pub principal: Box<str>,
    /// The last change of each resource.
    pub changes: Vec<SubscriptionChange>,
}

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
    principal: Box<str>,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self(Mutex::new(SharedMap::new(MAX_SESSIONS)))
    }
}

impl<'a> SubscribingSession<'a> {
    /// Names a session and its principal.
    pub fn new(session: &'a Conversation, principal: &'a str) -> Self {
        Self { session_id: &session.session_id, expires: session.expires, principal }
    }
}

impl Subscriptions {
    /// Changes a subscription here and now, unless there is no room. Returns the change for the siblings.
    pub fn change(
        &self,
        subscriber: SubscribingSession<'_>,
        uri: &str,
        subscribed: bool,
        now_us: u64,
    ) -> Result<SubscriptionChange, NotKept> {
        self.with(subscriber, now_us / 1_000_000, |entry| {
            // Later than any known change, even one by a clock that is ahead.
            let changed_us = entry.changed_us.get(uri).map_or(now_us, |known| now_us.max(known + 1));
            let change = SubscriptionChange { uri: uri.into(), subscribed, changed_us };
            if entry.take(&change) { Ok(change) } else { Err(NotKept::TooManyUris) }
        })
        .map_err(NotKept::NoRoom)?
    }

    /// Returns whether a session has subscribed to a resource, or had.
    pub fn knows(&self, session: &Conversation, uri: &str) -> bool {
        self.lock().get(&session.session_id).is_some_and(|entry| entry.changed_us.contains_key(uri))
    }

    /// Applies a change that was made at a sibling. Returns false if there is no room.
    pub fn take(&self, subscriber: SubscribingSession<'_>, change: &SubscriptionChange, now: u64) -> bool {
        self.with(subscriber, now, |entry| entry.take(change)).unwrap_or(false)
    }

    /// Watches the subscriptions of a session.
    pub fn watch(
        &self,
        subscriber: SubscribingSession<'_>,
        now: u64,
    ) -> Result<watch::Receiver<SubscribedUris>, NoRoom> {
        self.with(subscriber, now, |entry| entry.uris.subscribe())
    }

    /// Returns the changes of sessions that have not expired.
    pub fn all(&self, now: u64) -> Vec<SessionSubscriptions> {
        let sessions = self.lock();
        let alive = sessions.iter().filter(|(_, entry)| entry.expires > now);
        alive
            .map(|(session_id, entry)| SessionSubscriptions {
                session_id: *session_id,
                expires: entry.expires,
                principal: entry.principal.clone(),
                changes: entry.changes(),
            })
            .collect()
    }

    /// Forgets a session.
    pub fn end(&self, session_id: &SessionId) {
        self.lock().remove(session_id);
    }

    fn lock(&self) -> MutexGuard<'_, SharedMap<SessionId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        subscriber: SubscribingSession<'_>,
        now: u64,
        then: impl FnOnce(&mut Entry) -> T,
    ) -> Result<T, NoRoom> {
        let SubscribingSession { session_id, expires, principal } = subscriber;
        let fresh = || Entry {
            uris: watch::Sender::default(),
            changed_us: HashMap::new(),
            expires,
            principal: principal.into(),
        };
        let is_of_use = |entry: &Entry| entry.expires > now && entry.is_of_use();
        let mut sessions = self.lock();
        let holder = Holder::of(principal);
        Ok(then(sessions.get_or_insert_with(*session_id, holder, now, is_of_use, fresh)?))
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
        let mut watch = subscriptions.watch(SubscribingSession::new(&mine, "t"), 0).unwrap();
        let set = |by: &Conversation, uri: &str, wants| {
            subscriptions.change(SubscribingSession::new(by, "t"), uri, wants, 0)
        };
        assert!(set(&mine, "a", true).is_ok() && set(&theirs, "b", true).is_ok());
        assert!(watch.has_changed().unwrap());
        assert_eq!(watch.borrow_and_update().iter().map(|uri| &**uri).collect::<Vec<_>>(), ["a"]);
        assert!(set(&mine, "a", true).is_ok());
        assert!(!watch.has_changed().unwrap());
        assert!(set(&mine, "a", false).is_ok());
        assert!(watch.borrow_and_update().is_empty());
        for number in 0..MAX_URIS {
            assert!(set(&mine, &number.to_string(), true).is_ok());
        }
        assert_eq!(set(&mine, "one more", true), Err(NotKept::TooManyUris));
        assert_eq!(subscriptions.all(0).len(), 2);
        assert!(subscriptions.all(10).is_empty());
        subscriptions.end(&mine.session_id);
        assert!(watch.has_changed().is_err());
    }

    #[test]
    fn one_principal_leaves_room_for_the_sessions_of_others() {
        let subscriptions = Subscriptions::default();
        let subscribe = |number: usize, principal: &str| {
            let session_id = (number as u128).to_be_bytes();
            let subscriber = SubscribingSession { session_id: &session_id, expires: 10, principal };
            subscriptions.change(subscriber, "a", true, 0)
        };
        let kept = (0..MAX_SESSIONS).take_while(|number| subscribe(*number, "first").is_ok()).count();
        assert_eq!(kept, MAX_SESSIONS / 2);
        assert_eq!(subscribe(kept, "first"), Err(NotKept::NoRoom(NoRoom::Share)));
        let other = |name: &&String| Holder::of(name.as_str()) != Holder::of("first");
        let names: Vec<String> = (0..9).map(|number| number.to_string()).collect();
        assert!(subscribe(kept, names.iter().find(other).unwrap()).is_ok());
    }

    /// Two edges whose clocks differ, and events in any order.
    #[test]
    fn the_last_message_of_a_session_counts() {
        let session = Conversation::begin(Revision::V2025_11_25, Capabilities::default(), "c", 0, 10);
        let (first, second, third) =
            (Subscriptions::default(), Subscriptions::default(), Subscriptions::default());
        let subscriber = SubscribingSession::new(&session, "t");
        let subscribed = first.change(subscriber, "a", true, 900).unwrap();
        assert!(second.take(subscriber, &subscribed, 0));
        let given_up = second.change(subscriber, "a", false, 100).unwrap();
        assert_eq!((given_up.subscribed, given_up.changed_us), (false, 901));
        for change in [&given_up, &subscribed, &subscribed] {
            assert!(third.take(subscriber, change, 0));
        }
        let session_id = session.session_id;
        let known =
            SessionSubscriptions { session_id, expires: 10, principal: "t".into(), changes: vec![given_up] };
        assert_eq!(third.all(0), [known]);
        assert!(third.watch(subscriber, 0).unwrap().borrow().is_empty());
    }
}
