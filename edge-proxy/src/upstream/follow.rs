//! What follows on a call from elsewhere: cancelling, answers to an upstream's questions, log levels.
//!
//! Any worker may receive it, so it goes to all workers as an `Order`, and each does its part.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::Method as Verb;
use http::header::HeaderMap;
use mcp::header::{PROTOCOL_VERSION, SESSION_ID};
use mcp::message::span;
use mcp::splice::Splice;
use tokio::sync::Notify;

use super::Upstreams;
use super::asked::{ReplyTo, Question};
use super::http_pool::Retry;
use super::legacy::{ServerMessages, SessionKey, SessionPool, SessionTransport};
use super::task;
use super::translate::{Side, Translation};
use crate::error::{Failure, Fault};
use crate::held::{Delivery, Undelivered};
use crate::policy::Permit;
use crate::session::{Conversation, Jti, Owner};
use crate::snapshot::{Trust, Upstream};
use crate::transport::Message;
use crate::worker::Worker;

/// Why a call is cancelled: it took too long, or its client went away.
pub(super) const LATE: &str = "no answer in time";
pub(super) const GONE: &str = "the client went away";
/// Why a call is cancelled that its caller may not make any more.
const WITHDRAWN: &str = "the right to call was withdrawn";
/// Why a stream is left before its end.
const LEFT: &str = "its client is asked first";
/// Largest answer to a notification that is read.
const MAX_SMALL: usize = 64 << 10;

/// What a client asked for that concerns every worker.
#[derive(Clone)]
pub enum Order {
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
    Level {
        /// Where.
        upstreams: Vec<Arc<Upstream>>,
        /// For whom.
        conversation: Arc<Conversation>,
        /// The raw level.
        level: Bytes,
    },
}

/// A call that is in flight, for cancelling it.
pub(super) struct InFlight {
    jti: Jti,
    id: Bytes,
    end: End,
}

/// How a call is cancelled.
enum End {
    /// The upstream is told in its session.
    Told(Rc<SessionPool>),
    /// Whoever carries it on stops.
    Stopped(Rc<Notify>),
}

/// Keeps a call findable until it is dropped.
pub(super) struct Guard {
    worker: Rc<Worker>,
    number: u64,
    /// What the upstream says aside meanwhile, where that concerns nobody else.
    pub(super) aside: Option<ServerMessages>,
}

impl Guard {
    /// Makes a call findable.
    pub(super) fn new(worker: &Rc<Worker>, number: u64, jti: Jti, id: Bytes, pool: Rc<SessionPool>) -> Self {
        let aside = pool.server_messages();
        Self::keep(worker, number, InFlight { jti, id, end: End::Told(pool) }, aside)
    }

    /// The same, for a call that ends when it is told to stop.
    pub(super) fn stopping(worker: &Rc<Worker>, number: u64, jti: Jti, id: Bytes, stop: Rc<Notify>) -> Self {
        Self::keep(worker, number, InFlight { jti, id, end: End::Stopped(stop) }, None)
    }

    fn keep(worker: &Rc<Worker>, number: u64, call: InFlight, aside: Option<ServerMessages>) -> Self {
        worker.upstreams.calls.borrow_mut().insert(number, call);
        Self { worker: Rc::clone(worker), number, aside }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.worker.upstreams.calls.borrow_mut().remove(&self.number);
    }
}

impl Upstreams {
    /// Does this worker's part of an order.
    pub fn follow(&self, order: Order) {
        match order {
            Order::Cancel { jti, id, notification, at } => self.cancel(jti, &id, &notification, at),
            Order::Level { upstreams, conversation, level } => {
                self.remember_level(conversation.jti, level.clone());
                for upstream in &upstreams {
                    self.set_level(SessionKey::of_conversation(self, upstream, &conversation), level.clone());
                }
            }
        }
    }

    fn cancel(&self, jti: Jti, id: &Bytes, notification: &Bytes, at: std::ops::Range<usize>) {
        self.end(jti, id, |pool, number| {
            let body = Splice::new().replace(at.clone(), number.to_string()).apply(notification);
            notify(Rc::clone(pool), number, body);
        });
    }

    /// Ends the calls that a session makes under this raw id, and tells their upstreams: they may not be made any more.
    pub fn withdraw(&self, jti: Jti, id: &Bytes) {
        self.end(jti, id, |pool, number| cancel_number(pool, number, WITHDRAWN));
    }

    /// Ends the calls that a session makes under this raw id: `tell` tells the upstream of those that it carries on.
    fn end(&self, jti: Jti, id: &Bytes, tell: impl Fn(&Rc<SessionPool>, u64)) {
        for (number, call) in &*self.calls.borrow() {
            if call.jti == jti && call.id == *id {
                match &call.end {
                    End::Told(pool) => tell(pool, *number),
                    End::Stopped(stop) => stop.notify_one(),
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

/// Tells the upstream that nobody waits for a call any more, and why.
pub(super) fn cancel(worker: &Rc<Worker>, translation: &Translation, why: &str) {
    if translation.waited_task().is_some() {
        // It is said once.
        if let Some(body) = translation.cancels(worker.upstreams.number()) {
            say(worker, translation, body);
        }
        return;
    }
    if let Side::Legacy { number, session, .. } = &translation.side {
        match &session.transport {
            SessionTransport::Channel(claim) => claim.cancel(cancelled(*number, why)),
            SessionTransport::Http(_) => say(worker, translation, cancelled(*number, why)),
        }
    }
}

/// Tells the upstream that the caller may not make this call any more.
pub(super) fn withdraw(worker: &Rc<Worker>, translation: &Translation) {
    cancel(worker, translation, WITHDRAWN);
}

/// Tells the upstream that a stream is not read any more, though what it is about goes on.
pub(super) fn leave(worker: &Rc<Worker>, translation: &Translation) {
    if let Side::Legacy { number, .. } = &translation.side {
        say(worker, translation, cancelled(*number, LEFT));
    }
}

/// The same, for a call that has no answer yet.
pub(super) fn cancel_number(pool: &Rc<SessionPool>, number: u64, why: &str) {
    notify(Rc::clone(pool), number, cancelled(number, why));
}

fn cancelled(number: u64, why: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number},"reason":"{why}"}}}}"#).into()
}

/// Answers an upstream's ping.
pub(super) fn pong(worker: &Rc<Worker>, translation: &Translation, id: &str) {
    say(worker, translation, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#).into());
}

/// Tells the upstream something in the session of a call, and waits until it has been taken.
pub(super) async fn tell(worker: &Rc<Worker>, translation: &Translation, body: Bytes) -> Result<(), Fault> {
    let Side::Legacy { session, .. } = &translation.side else { return Ok(()) };
    match &session.transport {
        SessionTransport::Channel(claim) => claim.send(body),
        SessionTransport::Http(headers) => {
            deliver(worker, &translation.upstream, headers.clone(), body).await?;
        }
    }
    Ok(())
}

/// Tells the upstream something in the session of a call.
pub(super) fn say(worker: &Rc<Worker>, translation: &Translation, body: Bytes) {
    if let Side::Legacy { session, .. } = &translation.side {
        match &session.transport {
            SessionTransport::Channel(claim) => claim.send(body),
            SessionTransport::Http(headers) => post(worker, &translation.upstream, headers.clone(), body),
        }
    }
}

fn notify(pool: Rc<SessionPool>, number: u64, body: Bytes) {
    tokio::task::spawn_local(async move { pool.cancel(number, body).await });
}

fn post(worker: &Rc<Worker>, upstream: &Arc<Upstream>, headers: HeaderMap, body: Bytes) {
    let (worker, upstream) = (Rc::clone(worker), Arc::clone(upstream));
    tokio::task::spawn_local(async move {
        if let Err(fault) = deliver(&worker, &upstream, headers, body).await {
            tracing::debug!(upstream = %upstream.id, %fault, "an upstream did not take a message");
        }
    });
}

async fn deliver(
    worker: &Rc<Worker>,
    upstream: &Upstream,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), Fault> {
    let http_pool = worker.upstreams.http_pool(upstream)?;
    let response =
        http_pool.send(&Verb::POST, headers, body, Retry::IfUnsent, upstream.request_timeout).await?;
    let status = response.status;
    response.collect(MAX_SMALL).await?;
    if status.is_success() { Ok(()) } else { Err(Fault::Status(status.as_u16())) }
}

/// Brings a client's answer to the upstream whose question it answers, whichever edge asked it. The permit is for the call
/// in which it was asked.
pub async fn answer(
    worker: &Rc<Worker>,
    trust: &Trust,
    owner: Owner<'_>,
    message: &Message<'_>,
    question: Question,
    permit: &Permit,
) -> Result<(), Failure> {
    let nothing = Failure::answers_nothing;
    let upstream = &permit.entry().upstream;
    let raw = message.envelope.id.filter(|_| *upstream.id == *question.upstream).ok_or_else(nothing)?;
    let edits = Splice::new().replace(span(message.body, raw), question.id);
    let body = task::of_response(edits, trust, owner, message).apply(message.body);
    let (id, version) = match question.asker {
        ReplyTo::Session { id, version } => (id, version),
        ReplyTo::Held(place) => {
            let delivery = Delivery { message: body, answers: None };
            let delivered = worker.shared.peers.deliver(&place, delivery).await;
            return delivered.map_err(|undelivered| match undelivered {
                Undelivered::Gone => nothing(),
                _ => Failure::Overloaded,
            });
        }
    };
    let mut headers = worker
        .upstreams
        .http_pool(upstream)
        .map_err(|fault| Failure::upstream(&upstream.id, fault))?
        .headers
        .clone();
    headers.insert(PROTOCOL_VERSION, version);
    if let Some(session) = id {
        headers.insert(SESSION_ID, session);
    }
    deliver(worker, upstream, headers, body).await.map_err(|fault| match fault {
        Fault::Status(_) => nothing(),
        fault => Failure::upstream(&upstream.id, fault),
    })
}
