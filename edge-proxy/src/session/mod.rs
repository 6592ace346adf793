//! Which conversation a request belongs to: the era router, legacy session ids, modern headers.
//!
//! It must not know what is called, nor upstreams.

pub mod capabilities;
mod connection;
pub mod cursor;
pub mod event;
mod handle;
mod level;
mod levels;
pub mod mailbox;
pub mod modern;
pub mod seal;
mod subscriptions;
mod terminated;
pub mod ticket;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

pub use connection::ConnectionSession;
pub use handle::{Conversation, Jti};
use http::HeaderMap;
pub use level::Level;
pub use levels::Levels;
use mcp::header::{PROTOCOL_VERSION, SESSION_ID};
use mcp::method::Method;
use mcp::revision::{Era, Revision};
pub use subscriptions::{Change, MAX_URI_BYTES, MAX_URIS, Subscriptions, Uris};
pub use terminated::Terminated;
pub use ticket::Spent;

use crate::error::Failure;
use crate::snapshot::Trust;
use crate::transport::Message;

/// Session ids that one worker remembers having opened.
const MAX_REMEMBERED: usize = 16_384;

/// The conversation a request belongs to.
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
    pub fn id(&self) -> Option<Jti> {
        match self {
            Self::Legacy(conversation) => Some(conversation.jti),
            Self::Opening | Self::Modern(_) => None,
        }
    }

    /// The revision that is spoken, once that is settled.
    pub fn revision(&self) -> Option<Revision> {
        match self {
            Self::Opening => None,
            Self::Legacy(conversation) => Some(conversation.revision),
            Self::Modern(revision) => Some(*revision),
        }
    }
}

/// The principal and the server that sessions are bound to.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The uid of the virtual server.
    pub server: &'a str,
    /// The uid of the token.
    pub token: &'a str,
}

/// The session ids that one worker has opened, by their whole text.
#[derive(Debug, Default)]
pub struct Opened {
    handles: RefCell<HashMap<Box<str>, Remembered>>,
}

#[derive(Debug)]
struct Remembered {
    server: Box<str>,
    token: Box<str>,
    trust: u64,
    /// What `Terminated::changes` said when it was last looked up there.
    checked: u64,
    conversation: Rc<Conversation>,
}

/// Whether a message speaks modern: it says so in `_meta`, or in its header.
pub fn is_modern(headers: Option<&HeaderMap>, message: &Message<'_>) -> bool {
    let named = || headers?.get(PROTOCOL_VERSION)?.to_str().ok();
    // Revisions are dates, and dates of this form sort as text.
    message.params.version.is_some()
        || named().is_some_and(|version| version >= Revision::V2026_07_28.as_str())
}

/// Whether a message begins a legacy conversation.
pub fn is_opening(message: &Message<'_>) -> bool {
    message.method == Some(Method::Initialize) && message.envelope.id.is_some()
}

impl Opened {
    /// The legacy conversation that a request's `Mcp-Session-Id` names.
    pub fn conversation(
        &self,
        headers: &HeaderMap,
        trust: &Trust,
        owner: Owner<'_>,
        terminated: &Terminated,
        now: u64,
    ) -> Result<Rc<Conversation>, Failure> {
        let id = headers.get(SESSION_ID).ok_or(Failure::SessionMissing)?;
        let id = id.to_str().map_err(|_| Failure::SessionUnknown)?;
        let known = self.recall(id, trust, owner, terminated, now);
        let conversation = match known {
            Some(conversation) => conversation,
            None => self.open(id, trust, owner, terminated, now).ok_or(Failure::SessionUnknown)?,
        };
        check_version(headers)?;
        Ok(conversation)
    }

    fn recall(
        &self,
        id: &str,
        trust: &Trust,
        owner: Owner<'_>,
        terminated: &Terminated,
        now: u64,
    ) -> Option<Rc<Conversation>> {
        let mut handles = self.handles.borrow_mut();
        let known = handles.get_mut(id)?;
        let same =
            known.trust == trust.generation && *known.server == *owner.server && *known.token == *owner.token;
        if !same || now >= known.conversation.expires {
            return None;
        }
        let changes = terminated.changes();
        if known.checked != changes {
            if terminated.contains(&known.conversation.jti) {
                handles.remove(id);
                return None;
            }
            known.checked = changes;
        }
        Some(Rc::clone(&known.conversation))
    }

    fn open(
        &self,
        id: &str,
        trust: &Trust,
        owner: Owner<'_>,
        terminated: &Terminated,
        now: u64,
    ) -> Option<Rc<Conversation>> {
        let checked = terminated.changes();
        let conversation = Rc::new(Conversation::open(trust, owner.server, owner.token, id, now)?);
        if terminated.contains(&conversation.jti) {
            return None;
        }
        let remembered = Remembered {
            server: owner.server.into(),
            token: owner.token.into(),
            trust: trust.generation,
            checked,
            conversation: Rc::clone(&conversation),
        };
        let mut handles = self.handles.borrow_mut();
        if handles.len() >= MAX_REMEMBERED {
            handles.clear();
        }
        handles.insert(id.into(), remembered);
        Some(conversation)
    }
}

/// The version header of a legacy request, where it has one, must name a legacy revision.
fn check_version(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(value) = headers.get(PROTOCOL_VERSION) else { return Ok(()) };
    let revision = value.to_str().ok().and_then(Revision::parse);
    revision.filter(|revision| revision.era() == Era::Legacy).map(drop).ok_or(Failure::LegacyVersion)
}
