//! HTTP+SSE of 2024-11-05: the edge sends on one stream, and the client posts to the address that it names first.
//!
//! A post may reach another edge, which delivers it to the one that has the stream.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode};
use mcp::message::{Envelope, EnvelopeError};
use mcp::sse::{self, Event, KEEP_ALIVE};

use super::{ClientConnection, ConnectionGuard, Handler};
use crate::context::RequestContext;
use crate::error::{ErrorContext, Failure};
use crate::fleet::{Delivery, Undelivered, Waiter};
use crate::observe::{CloseReason, ConnectionTransport};
use crate::respond::events_stream;
use crate::session::post_address;
use crate::transport::{Body, HttpConnection, mended, request_body};

/// The time that a client has to read what was written before its stream ended.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens a stream, which is a session.
pub fn open(
    context: &RequestContext<'_>,
    http_connection: &Rc<HttpConnection>,
    handler: Handler,
) -> Result<Response<Body>, Failure> {
    let shared = &context.worker.shared;
    let permit = context.connection_permit()?;
    let guard = ConnectionGuard::open(context, ConnectionTransport::Sse, permit, handler);
    let waiter = shared.environment.fleet.waiters().register().ok_or(Failure::Overloaded)?;
    let handle = post_address::seal(&context.snapshot.trust, context.owner(), &waiter.address())
        .map_err(|error| Failure::Internal(error.to_string()))?;
    let address = shared.origin_policy.public(&format!("/servers/{}/sse/{handle}", context.server().id));
    let connection = &guard.connection;
    connection.spawn(receive_posts(Rc::clone(connection), waiter));
    connection.spawn(cut_when_closed(Rc::clone(connection), Rc::clone(http_connection)));
    Ok(events_stream(Box::pin(stream::unfold((guard, Some(address)), |(mut guard, address)| async move {
        let event = match address {
            Some(address) => event("endpoint", address.into()),
            None => guard.next_event().await?,
        };
        Some((event, (guard, None)))
    }))))
}

/// Delivers a posted message to the stream that `handle` names.
pub async fn post(
    context: &RequestContext<'_>,
    handle: &str,
    message: Bytes,
    error_context: &mut ErrorContext,
) -> Result<Response<Body>, Failure> {
    let address =
        post_address::open(&context.snapshot.trust, context.owner(), handle).ok_or(Failure::Disconnected)?;
    let message = match Envelope::parse(&message).err() {
        // The conversation decides whether there are batches.
        None | Some(EnvelopeError::Batch) => message,
        Some(error) => {
            request_body::check_coding(context.headers())?;
            mended(&message, error, error_context)?
        }
    };
    let delivered =
        context.worker.shared.environment.fleet.deliver(&address, Delivery { message, answers: None }).await;
    delivered.map_err(|undelivered| match undelivered {
        Undelivered::Gone => Failure::Disconnected,
        Undelivered::Full => Failure::Overloaded,
    })?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// Receives what is posted to this stream at any edge.
async fn receive_posts(connection: Rc<ClientConnection>, mut waiter: Waiter) {
    loop {
        let delivery = waiter.next().await;
        connection.receive(delivery.message).await;
    }
}

/// Cuts the HTTP connection once the stream is over, because a stream that is not read does not notice.
async fn cut_when_closed(connection: Rc<ClientConnection>, http_connection: Rc<HttpConnection>) {
    let mut ending = connection.close_reason.subscribe();
    let is_over = ending.wait_for(Option::is_some).await.map(|ending| *ending);
    if !matches!(is_over, Ok(Some(CloseReason::NotReading))) {
        tokio::time::sleep(CLOSING_TIMEOUT).await;
    }
    http_connection.cut();
}

impl ConnectionGuard {
    /// Waits for the next event. Returns `None` at the end.
    async fn next_event(&mut self) -> Option<Bytes> {
        let silence = self.connection.worker.shared.environment.limits.keep_alive;
        let (outbox, ending) = (&mut self.outbox, &mut self.close_reason);
        let message = tokio::select! {
            biased;
            message = outbox.recv() => message?,
            // Messages that were queued before the end are still written.
            _ = ending.wait_for(Option::is_some) => outbox.try_recv()?,
            () = tokio::time::sleep(silence) => return Some(Bytes::from_static(KEEP_ALIVE)),
        };
        Some(event("message", message))
    }
}

fn event(kind: &'static str, data: Bytes) -> Bytes {
    sse::encode(&Event { event: Some(Bytes::from_static(kind.as_bytes())), data, ..Event::default() })
}
