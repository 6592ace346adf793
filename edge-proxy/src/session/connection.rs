//! The session of a connection on which both sides speak, which ends with the connection.
//!
//! It must not know transports, nor what is sent on the connection.

use std::cell::OnceCell;
use std::rc::Rc;

use mcp::revision::Era;

use super::Conversation;
use crate::error::Failure;

/// The session of one connection.
#[derive(Debug)]
pub struct ConnectionSession {
    carries_modern: bool,
    conversation: OnceCell<Rc<Conversation>>,
}

impl ConnectionSession {
    /// Creates a session without a conversation. `carries_modern` says whether the transport has a modern era.
    pub fn new(carries_modern: bool) -> Self {
        Self { carries_modern, conversation: OnceCell::new() }
    }

    /// Begins the one conversation of the connection.
    pub fn begin(&self, conversation: Conversation) -> Result<(), Failure> {
        let begun = self.conversation.set(Rc::new(conversation));
        begun.map_err(|_| Failure::Invalid("this connection is already initialized".to_owned()))
    }

    /// The conversation, if it has begun.
    pub fn current(&self) -> Option<&Rc<Conversation>> {
        self.conversation.get()
    }

    /// Returns the conversation that a message of the connection belongs to.
    pub fn conversation(&self) -> Result<Rc<Conversation>, Failure> {
        self.conversation.get().cloned().ok_or(Failure::NotInitialized)
    }

    /// Returns whether requests of this era may come on the connection: only legacy ones during a conversation.
    pub fn carries(&self, era: Era) -> bool {
        era == Era::Legacy || (self.carries_modern && self.conversation.get().is_none())
    }
}
