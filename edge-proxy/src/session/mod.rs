//! The conversation that a request belongs to: the era router, legacy session ids, modern headers.
//!
//! It must not know what is called, nor upstreams.

pub mod capabilities;
mod connection;
mod conversation;
pub mod cursor;
mod ended_calls;
pub mod event;
mod held_state;
mod log_level;
mod log_levels;
pub mod modern;
mod owner;
pub mod post_address;
pub mod seal;
mod subscriptions;
mod terminated;
mod terminated_file;
pub mod ticket;
mod waiter_address;

use std::cell::RefCell;
use std::rc::Rc;

pub use connection::ConnectionSession;
pub use conversation::{Conversation, SessionId, session_text};
pub use ended_calls::{EndedCall, EndedCalls};
pub use held_state::{BegunCall, CallDigest, HeldState};
use http::HeaderMap;
pub use log_level::LogLevel;
pub use log_levels::LogLevels;
use mcp::border::head;
use mcp::header::{PROTOCOL_VERSION, SESSION_ID};
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use mcp::secrets::Secrets;
pub use owner::SessionOwner;
pub use subscriptions::{
    MAX_URI_BYTES, MAX_URIS, NotKept, SessionSubscriptions, SubscribedUris, SubscribingSession,
    SubscriptionChange, Subscriptions,
};
pub use terminated::{EndedSession, TerminatedSessions};
pub use terminated_file::TerminatedFile;
pub use ticket::UsedTickets;
pub use waiter_address::WaiterAddress;

use crate::collections::TwoGenerationCache;
use crate::error::Failure;
use crate::snapshot::Trust;
use crate::transport::Message;

/// The last used session ids that one worker keeps opened at least; at most twice as many.
const CAPACITY: usize = 16_384;

/// The conversation that a request belongs to.
#[derive(Debug, Clone)]
pub enum Session {
    /// None yet: this is the `initialize` that begins one.
    Opening,
    /// A legacy one.
    Legacy(Rc<Conversation>),
    /// None: the request carries everything.
    Modern(Revision),
}

impl Session {
    /// The era that answers are written for.
    pub fn era(&self) -> Era {
        match self {
            Self::Modern(_) => Era::Modern,
            _ => Era::Legacy,
        }
    }

    /// The id of the legacy session, where there is one.
    pub fn id(&self) -> Option<SessionId> {
        match self {
            Self::Legacy(conversation) => Some(conversation.session_id),
            Self::Opening | Self::Modern(_) => None,
        }
    }

    /// The negotiated revision, if any.
    pub fn revision(&self) -> Option<Revision> {
        match self {
            Self::Opening => None,
            Self::Legacy(conversation) => Some(conversation.revision),
            Self::Modern(revision) => Some(*revision),
        }
    }
}

/// The principal and the server that sealed handles are bound to.
#[derive(Debug, Clone, Copy)]
pub struct HandleOwner<'a> {
    /// The uid of the virtual server.
    pub server: &'a str,
    /// The uid of the principal.
    pub principal: &'a str,
}

/// The session ids that one worker has opened, by their whole text.
#[derive(Debug)]
pub struct SessionCache {
    handles: RefCell<TwoGenerationCache<Box<str>, CachedSession>>,
}

#[derive(Debug)]
struct CachedSession {
    server: Box<str>,
    principal: Box<str>,
    /// The generation of the sealing keys that it was opened with.
    sealing: u64,
    /// The value of `TerminatedSessions::changes` at the last check.
    checked: u64,
    conversation: Rc<Conversation>,
}

/// Returns whether a message is of the modern era: its `_meta` names such a revision, or its header does and nothing else
/// about it is legacy.
pub fn is_modern(headers: Option<&HeaderMap>, message: &Message<'_>) -> bool {
    let by_header = |headers: &HeaderMap| {
        let is_initialize = message.method == Some(Method::Initialize);
        headers.get(PROTOCOL_VERSION).is_some_and(|version| {
            let in_session = headers.contains_key(SESSION_ID);
            head::is_version_of_modern_request(version.as_bytes(), in_session, is_initialize)
        })
    };
    message.params.version.is_some() || headers.is_some_and(by_header)
}

/// Returns whether a message begins a legacy conversation.
pub fn is_initialize(message: &Message<'_>) -> bool {
    message.method == Some(Method::Initialize) && message.envelope.id.is_some()
}

impl Default for SessionCache {
    fn default() -> Self {
        Self { handles: RefCell::new(TwoGenerationCache::new(CAPACITY)) }
    }
}

/// What the id of a session is looked up with.
#[derive(Debug, Clone, Copy)]
pub struct SessionLookup<'a> {
    /// The keys that ids are sealed with.
    pub trust: &'a Trust,
    /// Whose the session must be.
    pub owner: HandleOwner<'a>,
    /// The sessions that have ended.
    pub terminated: &'a TerminatedSessions,
    /// The time, in seconds since the Unix epoch.
    pub now: u64,
}

impl CachedSession {
    /// Returns the conversation, if it was opened with today's keys for this owner, and has not ended.
    fn conversation(&mut self, lookup: SessionLookup<'_>) -> Option<Rc<Conversation>> {
        let SessionLookup { trust, owner, terminated, now } = lookup;
        let same = self.sealing == trust.sealing.generation
            && *self.server == *owner.server
            && *self.principal == *owner.principal;
        if !same || now >= self.conversation.expires {
            return None;
        }
        let changes = terminated.changes();
        if self.checked != changes {
            if terminated.contains(&self.conversation.session_id) {
                return None;
            }
            self.checked = changes;
        }
        Some(Rc::clone(&self.conversation))
    }
}

impl SessionCache {
    /// Returns the legacy conversation that a request's `Mcp-Session-Id` names.
    pub fn conversation(
        &self,
        headers: &HeaderMap,
        lookup: SessionLookup<'_>,
    ) -> Result<Rc<Conversation>, Failure> {
        let id = headers.get(SESSION_ID).ok_or(Failure::SessionMissing)?;
        let id = id.to_str().map_err(|_| Failure::SessionUnknown)?;
        let find = |id: &str| self.find(id, lookup);
        let found = find(id).or_else(|| find(joined_id(id)?));
        let conversation = found.ok_or(Failure::SessionUnknown)?;
        check_version(headers, conversation.revision)?;
        Ok(conversation)
    }

    fn find(&self, id: &str, lookup: SessionLookup<'_>) -> Option<Rc<Conversation>> {
        let known = self.handles.borrow_mut().with(id, |known| known.conversation(lookup));
        known.flatten().or_else(|| self.open(id, lookup))
    }

    fn open(&self, id: &str, lookup: SessionLookup<'_>) -> Option<Rc<Conversation>> {
        let SessionLookup { trust, owner, terminated, now } = lookup;
        let checked = terminated.changes();
        let conversation = Rc::new(Conversation::open(trust, owner.server, owner.principal, id, now)?);
        if terminated.contains(&conversation.session_id) {
            return None;
        }
        let session = CachedSession {
            server: owner.server.into(),
            principal: owner.principal.into(),
            sealing: trust.sealing.generation,
            checked,
            conversation: Rc::clone(&conversation),
        };
        self.handles.borrow_mut().insert(id.into(), session);
        Some(conversation)
    }
}

/// The id in a header that repeats it.
#[cold]
fn joined_id(header: &str) -> Option<&str> {
    let id = std::str::from_utf8(head::sole(header.as_bytes())).ok()?;
    (id != header).then_some(id)
}

/// Checks that the version header of a legacy request, where it has one, can be meant for a session of `revision`.
fn check_version(headers: &HeaderMap, revision: Revision) -> Result<(), Failure> {
    match headers.get(PROTOCOL_VERSION) {
        Some(sent) if !head::is_version_of_session(sent.as_bytes()) => {
            Err(Failure::LegacyVersion { sent: Secrets::default().quote(sent.as_bytes(), 0), revision })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::capabilities::Capabilities;

    #[test]
    fn a_session_is_opened_again_when_sealing_keys_change_and_not_when_an_issuers_do() {
        let (cache, terminated) = (SessionCache::default(), TerminatedSessions::default());
        let owner = HandleOwner { server: "s", principal: "p" };
        let mut trust = seal::tests::trust(&[1]);
        let begun = Conversation::begin(Revision::V2025_11_25, Capabilities::default(), "c", 0, 10);
        let id = begun.seal(&trust, owner.server, owner.principal).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(SESSION_ID, id.parse().unwrap());
        let open = |trust: &Trust| {
            cache.conversation(&headers, SessionLookup { trust, owner, terminated: &terminated, now: 0 })
        };

        let first = open(&trust).unwrap();
        trust.issuer.generation += 1;
        assert!(Rc::ptr_eq(&first, &open(&trust).unwrap()));
        assert!(open(&seal::tests::trust(&[2, 1])).is_ok());
        assert!(open(&seal::tests::trust(&[2])).is_err(), "it was sealed with a key that is gone");
    }
}
