//! Calls in flight, and the commands of clients that concern them: cancellations and log levels.
//!
//! Any worker may receive one, so it goes to all workers as a `SessionCommand`, and each applies its part. It must not
//! know how calls are made.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use mcp::border::ids;
use mcp::splice::Splice;

use super::session::{ServerMessages, SessionKey, SessionPool};
use super::session_messages;
use crate::policy::SharedPermit;
use crate::session::{Conversation, SessionId};
use crate::snapshot::{Upstream, UpstreamKind};
use crate::upstream::Context;

/// A command of a client that concerns every worker.
#[derive(Clone)]
pub enum SessionCommand {
    /// Cancels a request.
    Cancel {
        /// The session that the request was made in.
        session_id: SessionId,
        /// Its raw id.
        id: Bytes,
        /// The client's notification.
        notification: Bytes,
        /// The position of the id in it.
        at: std::ops::Range<usize>,
    },
    /// Sets the level of log messages, for which the conversation has sessions of its own.
    SetLevel { upstreams: Vec<Arc<Upstream>>, conversation: Arc<Conversation>, level: Bytes },
}

/// A call that can be cancelled.
pub(in crate::upstream) struct InFlightCall {
    session_id: SessionId,
    id: Bytes,
    cancellation: Cancellation,
}

/// The way in which a call is cancelled.
enum Cancellation {
    /// Sends a notification in the session of the call, whose permit is given up.
    Notify(Rc<SessionPool>, SharedPermit),
    /// Stops the task that makes the call.
    Stop(Rc<tokio::sync::Notify>),
}

/// Keeps a call registered until it is dropped.
pub(super) struct InFlightGuard {
    context: Rc<Context>,
    number: u64,
    /// The messages on the server stream meanwhile, where there may be any for the call.
    pub(super) server_messages: Option<ServerMessages>,
}

impl InFlightGuard {
    /// Registers a call that is cancelled by a notification, and subscribes it to the server stream.
    pub(super) fn new(
        context: &Rc<Context>,
        (number, wants_progress): (u64, bool),
        session_id: SessionId,
        id: Bytes,
        pool: Rc<SessionPool>,
        permit: SharedPermit,
    ) -> Self {
        let server_messages = pool.server_messages(number, wants_progress);
        Self::register(
            context,
            number,
            InFlightCall { session_id, id, cancellation: Cancellation::Notify(pool, permit) },
            server_messages,
        )
    }

    /// Registers a call that is cancelled by stopping its task.
    pub(super) fn with_stop(
        context: &Rc<Context>,
        number: u64,
        session_id: SessionId,
        id: Bytes,
        stop: Rc<tokio::sync::Notify>,
    ) -> Self {
        Self::register(
            context,
            number,
            InFlightCall { session_id, id, cancellation: Cancellation::Stop(stop) },
            None,
        )
    }

    fn register(
        context: &Rc<Context>,
        number: u64,
        call: InFlightCall,
        server_messages: Option<ServerMessages>,
    ) -> Self {
        context.mcp.calls.borrow_mut().insert(number, call);
        Self { context: Rc::clone(context), number, server_messages }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.context.mcp.calls.borrow_mut().remove(&self.number);
    }
}

impl Context {
    /// Applies this worker's part of a command.
    pub fn apply(&self, command: SessionCommand) {
        match command {
            SessionCommand::Cancel { session_id, id, notification, at } => {
                self.cancel(session_id, &id, &notification, at)
            }
            SessionCommand::SetLevel { upstreams, conversation, level } => {
                self.mcp.remember_level(conversation.session_id, level.clone());
                for upstream in &upstreams {
                    match &upstream.kind {
                        UpstreamKind::Mcp(mcp) => {
                            let key = SessionKey::of_conversation(self, upstream, mcp, &conversation);
                            self.set_level(key, level.clone());
                        }
                    }
                }
            }
        }
    }

    fn cancel(&self, session_id: SessionId, id: &Bytes, notification: &Bytes, at: std::ops::Range<usize>) {
        let calls = self.mcp.calls.borrow();
        let open = calls.iter().filter(|(_, call)| call.session_id == session_id);
        let open =
            open.filter_map(|(number, call)| Some((std::str::from_utf8(&call.id).ok()?, (number, call))));
        let found = std::str::from_utf8(id).ok().and_then(|id| ids::find(id, open));
        match found.map(|(number, call)| (number, &call.cancellation)) {
            Some((number, Cancellation::Notify(pool, permit))) => {
                permit.give_up();
                let body = Splice::new().replace(at, number.to_string()).apply(notification);
                session_messages::notify(Rc::clone(pool), *number, body);
            }
            Some((_, Cancellation::Stop(stop))) => stop.notify_one(),
            None => {}
        }
    }

    fn set_level(&self, key: SessionKey, level: Bytes) {
        let pool = self.mcp.session_pools.borrow().get(&key).cloned();
        // A session that is opened later begins with the level.
        if let Some(pool) = pool {
            tokio::task::spawn_local(async move { pool.set_level(level).await });
        }
    }
}
