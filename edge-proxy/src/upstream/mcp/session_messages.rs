//! Messages that the edge itself sends in the session of a call: cancellations, pongs and responses.
//!
//! It must not know why they are sent.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::Method as Verb;
use http::header::HeaderMap;

use super::session::{SessionPool, SessionTransport};
use super::translation::{Translation, UpstreamEra};
use crate::error::Fault;
use crate::snapshot::Upstream;
use crate::upstream::Context;
use crate::upstream::connect::Retry;

/// Reasons in `notifications/cancelled`.
pub(super) const TIMED_OUT: &str = "no response in time";
pub(super) const CLIENT_GONE: &str = "the client has disconnected";
pub(super) const WITHDRAWN: &str = "the permission for this call was withdrawn";
const ASKING_CLIENT: &str = "its client is asked first";
/// Largest response to a notification.
const MAX_SMALL_RESPONSE: usize = 64 << 10;

/// Cancels a call at its upstream.
pub(super) fn cancel(context: &Rc<Context>, translation: &Translation, why: &str) {
    if translation.awaited_task().is_some() {
        // It is sent once.
        if let Some(body) = translation.take_cancellation(context.next_request_id()) {
            send(context, translation, body);
        }
        return;
    }
    if let UpstreamEra::Legacy { number, session, .. } = &translation.upstream_era {
        match &session.transport {
            SessionTransport::Channel(claim) => claim.cancel(cancellation(*number, why)),
            SessionTransport::Http(_) => send(context, translation, cancellation(*number, why)),
        }
    }
}

/// Cancels a call that its caller may no longer make.
pub(super) fn withdraw(context: &Rc<Context>, translation: &Translation) {
    cancel(context, translation, WITHDRAWN);
}

/// Tells the upstream that a stream is no longer read, though its task goes on.
pub(super) fn stop_reading(context: &Rc<Context>, translation: &Translation) {
    if let UpstreamEra::Legacy { number, .. } = &translation.upstream_era {
        send(context, translation, cancellation(*number, ASKING_CLIENT));
    }
}

/// Cancels a call that has no response yet.
pub(super) fn cancel_request(pool: &Rc<SessionPool>, number: u64, why: &str) {
    notify(Rc::clone(pool), number, cancellation(number, why));
}

fn cancellation(number: u64, why: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number},"reason":"{why}"}}}}"#).into()
}

/// Answers an upstream's ping.
pub(super) fn pong(context: &Rc<Context>, translation: &Translation, id: &str) {
    send(context, translation, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#).into());
}

/// Sends a message in the session of a call, and waits until the upstream has accepted it.
pub(super) async fn send_confirmed(
    context: &Rc<Context>,
    translation: &Translation,
    body: Bytes,
) -> Result<(), Fault> {
    let UpstreamEra::Legacy { session, .. } = &translation.upstream_era else { return Ok(()) };
    match &session.transport {
        SessionTransport::Channel(claim) => claim.send(body),
        SessionTransport::Http(headers) => {
            post(context, &translation.upstream, headers.clone(), body).await?;
        }
    }
    Ok(())
}

/// Sends a message in the session of a call, in the background.
pub(super) fn send(context: &Rc<Context>, translation: &Translation, body: Bytes) {
    if let UpstreamEra::Legacy { session, .. } = &translation.upstream_era {
        match &session.transport {
            SessionTransport::Channel(claim) => claim.send(body),
            SessionTransport::Http(headers) => {
                post_in_background(context, &translation.upstream, headers.clone(), body)
            }
        }
    }
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
