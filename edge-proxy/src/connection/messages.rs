//! Messages of a connection: those of the client through the pipeline, and what comes of them to the client.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, Abortable};
use mcp::border::ids;
use mcp::json;
use mcp::message::{Envelope, EnvelopeError, Kind};
use mcp::method::Method;

use super::ClientConnection;
use crate::collections::byte_queue::NotQueued;
use crate::error::{ErrorContext, Failure};
use crate::observe::CloseReason;
use crate::respond::{Reply, StreamItem, joined};
use crate::transport::mended;

impl ClientConnection {
    /// Receives a message of the client. Waits while too many are being processed or the client does not read, because
    /// a further message would only wait as well.
    pub(super) async fn receive(self: &Rc<Self>, body: Bytes) {
        if !self.in_time(self.outbox.ready()).await {
            return;
        }
        let Ok(permit) = self.message_permits.clone().acquire_owned().await else { return };
        let connection = Rc::clone(self);
        self.spawn(async move {
            connection.process(&body).await;
            drop(permit);
        });
    }

    /// Answers a message that is not processed, if it expects an answer.
    pub(super) async fn refuse(&self, body: &Bytes, failure: &Failure) {
        let Ok(Envelope { id: Some(id), .. }) = Envelope::parse(body) else {
            return tracing::debug!(%failure, "refused a message that expects no response");
        };
        let id = body.slice(mcp::message::span(body, id));
        self.send_failure(failure, &ErrorContext { id: Some(id), ..ErrorContext::default() }).await;
    }

    async fn process(self: &Rc<Self>, body: &Bytes) {
        match Envelope::parse(body) {
            Ok(envelope) => self.process_message(body, envelope).await,
            Err(error) => Box::pin(self.process_odd(body, error)).await,
        }
    }

    /// Processes a batch, or a message that cannot be read as it is.
    async fn process_odd(self: &Rc<Self>, body: &Bytes, error: EnvelopeError) {
        if error == EnvelopeError::Batch {
            return match self.request_permit(true) {
                Ok(_request_permit) => self.respond(body, Err(error), ErrorContext::default()).await,
                Err(failure) => self.send_failure(&failure, &ErrorContext::default()).await,
            };
        }
        let Ok(meant) = mended(body, error.clone(), &mut ErrorContext::default()) else {
            return self.respond(body, Err(error), ErrorContext::default()).await;
        };
        match Envelope::parse(&meant) {
            Ok(envelope) => self.process_message(&meant, envelope).await,
            Err(error) => self.respond(body, Err(error), ErrorContext::default()).await,
        }
    }

    async fn process_message(self: &Rc<Self>, body: &Bytes, envelope: Envelope<'_>) {
        match (envelope.kind(), envelope.id) {
            (Kind::Request, Some(id)) => {
                let id = body.slice(mcp::message::span(body, id));
                self.request(id, body, envelope).await;
            }
            _ if self.cancel(&envelope) => {}
            _ => self.respond(body, Ok(envelope), ErrorContext::default()).await,
        }
    }

    /// Answers a request, which can be cancelled while it is in flight and whose id is taken as long.
    async fn request(self: &Rc<Self>, id: Bytes, body: &Bytes, envelope: Envelope<'_>) {
        let error_context = ErrorContext { id: Some(id.clone()), ..ErrorContext::default() };
        let request_permit = match self.request_permit(true) {
            Ok(request_permit) => request_permit,
            Err(failure) => return self.send_failure(&failure, &error_context).await,
        };
        let (handle, registration) = AbortHandle::new_pair();
        // In a legacy conversation the upstream is told of a cancellation, and may answer all the same.
        let handle = self.session.current().is_none().then_some(handle);
        if self.requests.borrow().contains_key(&id) {
            let failure = Failure::Invalid("a request with this id is already in flight".to_owned());
            return self.send_failure(&failure, &error_context).await;
        }
        self.requests.borrow_mut().insert(id.clone(), handle);
        let in_flight = InFlight { connection: self, id };
        // An error means that it was cancelled, and that no answer is awaited.
        let _cancelled: Result<(), _> =
            Abortable::new(self.respond(body, Ok(envelope), error_context), registration).await;
        drop((in_flight, request_permit));
    }

    /// Admits one more request on this connection.
    fn request_permit(&self, is_request: bool) -> Result<Option<tokio::sync::SemaphorePermit<'_>>, Failure> {
        if !is_request {
            return Ok(None);
        }
        if self.worker.is_draining() {
            return Err(Failure::Draining);
        }
        self.request_permits.try_acquire().map(Some).map_err(|_| Failure::TooManyRequests)
    }

    /// Cancels the modern request that a notification names. Returns false for any other message.
    fn cancel(&self, envelope: &Envelope<'_>) -> bool {
        if envelope.method.as_deref() != Some(Method::Cancelled.as_str()) {
            return false;
        }
        let [id] = json::members(envelope.params.unwrap_or("{}"), ["requestId"]).unwrap_or_default();
        let requests = self.requests.borrow();
        let open = requests.iter().filter_map(|(own, handle)| Some((std::str::from_utf8(own).ok()?, handle)));
        let known = id.and_then(|id| requests.get(id.as_bytes()).or_else(|| ids::find(id, open)));
        match known {
            Some(Some(handle)) => {
                handle.abort();
                true
            }
            _ => false,
        }
    }

    async fn respond(
        self: &Rc<Self>,
        body: &Bytes,
        read: Result<Envelope<'_>, EnvelopeError>,
        mut error_context: ErrorContext,
    ) {
        let wants_answer =
            !matches!(&read, Ok(envelope) if matches!(envelope.kind(), Kind::Notification | Kind::Response));
        match (self.handler)(self, body, read, &mut error_context).await {
            Ok(reply) => self.send_reply(reply).await,
            Err(failure) => {
                if matches!(
                    failure,
                    Failure::Bearer { .. } | Failure::Unmet(_) | Failure::Server | Failure::TrustStale
                ) {
                    self.end(CloseReason::Unauthorized);
                }
                if wants_answer {
                    self.send_failure(&failure, &error_context).await;
                } else {
                    tracing::debug!(%failure, "refused a message that expects no response");
                }
            }
        }
    }

    async fn send_failure(&self, failure: &Failure, error_context: &ErrorContext) {
        if let Some(reason) = failure.counts_as() {
            self.worker.shared.environment.metrics.rejected(reason).inc();
        }
        self.send(failure.message(error_context)).await;
    }

    /// Sends the client all messages of a reply, one after the other.
    async fn send_reply(&self, reply: Reply) {
        match reply {
            Reply::Accepted | Reply::Done => {}
            Reply::Json { parts, .. } => {
                self.send(joined(parts)).await;
            }
            Reply::Events(mut events) => {
                while let Some(message) = events.message().await {
                    if !self.send(message).await {
                        return;
                    }
                }
            }
            Reply::Stream(mut items) => {
                while let Some(item) = items.next().await {
                    if let StreamItem::Message(message) = item
                        && !self.send(message).await
                    {
                        return;
                    }
                }
            }
        }
    }

    /// Sends one message to the client, as soon as there is room for it. Returns false if the client no longer reads.
    async fn send(&self, message: Bytes) -> bool {
        self.in_time(self.outbox.send(message)).await
    }

    /// Waits until there is room for a message to the client. Ends the connection of a client that does not read for too
    /// long. Returns false if the connection has ended.
    async fn in_time(&self, room: impl Future<Output = Result<(), NotQueued>>) -> bool {
        let patience = self.worker.shared.environment.limits.send_timeout;
        match tokio::time::timeout(patience, room).await {
            Ok(room) => room.is_ok(),
            Err(_) => {
                self.end(CloseReason::NotReading);
                false
            }
        }
    }
}

/// A request in flight. Dropping it frees its id.
struct InFlight<'a> {
    connection: &'a ClientConnection,
    id: Bytes,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.connection.requests.borrow_mut().remove(&self.id);
    }
}
