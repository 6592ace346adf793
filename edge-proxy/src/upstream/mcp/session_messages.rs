//! Messages that the edge itself sends in the session of a call: cancellations and responses.
//!
//! It must not know why they are sent.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::Method as Verb;
use http::header::HeaderMap;
use tokio::time::Instant;

use super::session::{SessionPool, SessionTransport, UpstreamSession, post_sender};
use super::translator::CallInSession;
use crate::error::Fault;
use crate::snapshot::Upstream;
use crate::upstream::Context;
use crate::upstream::connect::Retry;

/// Reasons in `notifications/cancelled`.
pub(super) const TIMED_OUT: &str = "no response in time";
pub(super) const CLIENT_GONE: &str = "the client has disconnected";
pub(super) const WITHDRAWN: &str = "the permission for this call was withdrawn";
const ASKING_CLIENT: &str = "waiting for input from the client";
/// Largest response to a notification.
const MAX_SMALL_RESPONSE: usize = 64 << 10;

/// Cancels a call at its upstream.
pub(super) fn cancel(context: &Rc<Context>, upstream: &Arc<Upstream>, call: &CallInSession, why: &str) {
    let cancellation = cancellation(call.number, why);
    match &call.session.transport {
        SessionTransport::Channel(claim) => claim.cancel(cancellation),
        SessionTransport::Http(_) => send(context, upstream, &call.session, cancellation),
    }
}

/// Tells the upstream that a stream is no longer read, though its task goes on.
pub(super) fn stop_reading(context: &Rc<Context>, upstream: &Arc<Upstream>, call: &CallInSession) {
    send(context, upstream, &call.session, cancellation(call.number, ASKING_CLIENT));
}

/// Cancels a call that has no response yet.
pub(super) fn cancel_request(pool: &Rc<SessionPool>, number: u64, why: &str) {
    notify(Rc::clone(pool), number, cancellation(number, why));
}

/// Cancels a call when the client hangs up before the response begins, which is when this is dropped.
pub(super) struct CancelOnDrop {
    pool: Rc<SessionPool>,
    number: u64,
    /// Whether it still cancels.
    pub armed: bool,
}

impl CancelOnDrop {
    pub(super) fn new(pool: &Rc<SessionPool>, number: u64) -> Self {
        Self { pool: Rc::clone(pool), number, armed: true }
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.armed {
            cancel_request(&self.pool, self.number, CLIENT_GONE);
        }
    }
}

fn cancellation(number: u64, why: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number},"reason":"{why}"}}}}"#).into()
}

/// Sends a message in a session, and waits until the upstream has accepted it.
pub(super) async fn send_confirmed(
    context: &Rc<Context>,
    upstream: &Upstream,
    session: &UpstreamSession,
    body: Bytes,
) -> Result<(), Fault> {
    match &session.transport {
        SessionTransport::Channel(claim) => claim.send(body),
        SessionTransport::Http(headers) => post(context, upstream, headers.clone(), body).await?,
    }
    Ok(())
}

/// Sends a message in a session, in the background.
pub(super) fn send(context: &Rc<Context>, upstream: &Arc<Upstream>, session: &UpstreamSession, body: Bytes) {
    match &session.transport {
        SessionTransport::Channel(claim) => claim.send(body),
        SessionTransport::Http(headers) => post_in_background(context, upstream, headers.clone(), body),
    }
}

/// Responds to a request of the upstream in a session. Waits, until then, for room among the responses before it. Cancel
/// safe.
pub(super) async fn reply(
    context: &Rc<Context>,
    upstream: &Arc<Upstream>,
    session: &UpstreamSession,
    body: Bytes,
    until: Instant,
) -> Result<(), Fault> {
    match &session.transport {
        SessionTransport::Channel(claim) => claim.reply(body, until).await,
        SessionTransport::Http(headers) => {
            let sender =
                || Ok(post_sender(context.http_pool(upstream)?, headers.clone(), upstream.request_timeout));
            session.replies.send(body, until, sender).await
        }
    }
}

/// Responds to requests of the upstream in a session, in the background, for as long as it takes the responses.
pub(super) fn reply_to_all(
    context: &Rc<Context>,
    upstream: &Arc<Upstream>,
    session: &Rc<UpstreamSession>,
    bodies: Vec<Bytes>,
) {
    let (context, upstream, session) = (Rc::clone(context), Arc::clone(upstream), Rc::clone(session));
    tokio::task::spawn_local(async move {
        for body in bodies {
            let until = Instant::now() + upstream.request_timeout;
            if let Err(fault) = reply(&context, &upstream, &session, body, until).await {
                return tracing::debug!(upstream = %upstream.id, %fault, "cannot refuse all requests of an upstream");
            }
        }
    });
}

pub(super) fn notify(pool: Rc<SessionPool>, number: u64, body: Bytes) {
    tokio::task::spawn_local(async move { pool.cancel(number, body).await });
}

fn post_in_background(context: &Rc<Context>, upstream: &Arc<Upstream>, headers: HeaderMap, body: Bytes) {
    let (context, upstream) = (Rc::clone(context), Arc::clone(upstream));
    tokio::task::spawn_local(async move {
        if let Err(fault) = post(&context, &upstream, headers, body).await {
            tracing::debug!(upstream = %upstream.id, %fault, "cannot deliver a message to an upstream");
        }
    });
}

pub(super) async fn post(
    context: &Rc<Context>,
    upstream: &Upstream,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), Fault> {
    let http_pool = context.http_pool(upstream)?;
    let response =
        http_pool.send(&Verb::POST, headers, body, Retry::IfUnsent, upstream.request_timeout).await?;
    let status = response.status;
    response.collect(MAX_SMALL_RESPONSE).await?;
    if status.is_success() { Ok(()) } else { Err(Fault::Status(status.as_u16())) }
}
