//! Calls that are in flight, and what a client asks for while they are: cancellations and log levels.
//!
//! Any worker may receive it, so it goes to all workers as a `SessionCommand`, and each does its part.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use mcp::splice::Splice;

use super::Upstreams;
use super::legacy::{ServerMessages, SessionKey, SessionPool};
use super::session_messages;
use crate::session::{Conversation, Jti};
use crate::snapshot::Upstream;
use crate::worker::Worker;

/// What a client asked for that concerns every worker.
#[derive(Clone)]
pub enum SessionCommand {
    /// Never mind that request.
    Cancel {
        /// The session it was made in.
        jti: Jti,
        /// Its raw id.
        id: Bytes,
        /// The client's notification.
        notification: Bytes,
        /// Where the id lies in it.
        at: std::ops::Range<usize>,
    },
    /// Log messages from this level on, which takes a session of the conversation's own.
    SetLevel {
        /// Where.
        upstreams: Vec<Arc<Upstream>>,
        /// For whom.
        conversation: Arc<Conversation>,
        /// The raw level.
        level: Bytes,
    },
}

/// A call that is in flight, for cancelling it.
pub(super) struct InFlightCall {
    jti: Jti,
    id: Bytes,
    cancellation: Cancellation,
}

/// How a call is cancelled.
enum Cancellation {
    /// The upstream is told in its session.
    Notify(Rc<SessionPool>),
    /// Whoever carries it on stops.
    Stop(Rc<tokio::sync::Notify>),
}

/// Keeps a call findable until it is dropped.
pub(super) struct InFlightGuard {
    worker: Rc<Worker>,
    number: u64,
    /// What the upstream says aside meanwhile, where that concerns nobody else.
    pub(super) server_messages: Option<ServerMessages>,
}

impl InFlightGuard {
    /// Makes a call findable.
    pub(super) fn new(worker: &Rc<Worker>, number: u64, jti: Jti, id: Bytes, pool: Rc<SessionPool>) -> Self {
        let server_messages = pool.server_messages();
        Self::register(worker, number, InFlightCall { jti, id, cancellation: Cancellation::Notify(pool) }, server_messages)
    }

    /// The same, for a call that ends when it is told to stop.
    pub(super) fn with_stop(worker: &Rc<Worker>, number: u64, jti: Jti, id: Bytes, stop: Rc<tokio::sync::Notify>) -> Self {
        Self::register(worker, number, InFlightCall { jti, id, cancellation: Cancellation::Stop(stop) }, None)
    }

    fn register(worker: &Rc<Worker>, number: u64, call: InFlightCall, server_messages: Option<ServerMessages>) -> Self {
        worker.upstreams.calls.borrow_mut().insert(number, call);
        Self { worker: Rc::clone(worker), number, server_messages }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.worker.upstreams.calls.borrow_mut().remove(&self.number);
    }
}

impl Upstreams {
    /// Does this worker's part of an order.
    pub fn apply(&self, command: SessionCommand) {
        match command {
            SessionCommand::Cancel { jti, id, notification, at } => self.cancel(jti, &id, &notification, at),
            SessionCommand::SetLevel { upstreams, conversation, level } => {
                self.remember_level(conversation.jti, level.clone());
                for upstream in &upstreams {
                    self.set_level(SessionKey::of_conversation(self, upstream, &conversation), level.clone());
                }
            }
        }
    }

    fn cancel(&self, jti: Jti, id: &Bytes, notification: &Bytes, at: std::ops::Range<usize>) {
        self.end_calls(jti, id, |pool, number| {
            let body = Splice::new().replace(at.clone(), number.to_string()).apply(notification);
            session_messages::notify(Rc::clone(pool), number, body);
        });
    }

    /// Ends the calls that a session makes under this raw id, and tells their upstreams: they may not be made any more.
    pub fn withdraw(&self, jti: Jti, id: &Bytes) {
        self.end_calls(jti, id, |pool, number| session_messages::cancel_request(pool, number, session_messages::WITHDRAWN));
    }

    /// Ends the calls that a session makes under this raw id: `tell` tells the upstream of those that it carries on.
    fn end_calls(&self, jti: Jti, id: &Bytes, tell: impl Fn(&Rc<SessionPool>, u64)) {
        for (number, call) in &*self.calls.borrow() {
            if call.jti == jti && call.id == *id {
                match &call.cancellation {
                    Cancellation::Notify(pool) => tell(pool, *number),
                    Cancellation::Stop(stop) => stop.notify_one(),
                }
            }
        }
    }

    fn set_level(&self, key: SessionKey, level: Bytes) {
        let pool = self.session_pools.borrow().get(&key).cloned();
        // Where there is none yet, it begins with the level.
        if let Some(pool) = pool {
            tokio::task::spawn_local(async move { pool.set_level(level).await });
        }
    }
}

