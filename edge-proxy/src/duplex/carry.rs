//! One message of a connection: on its way along the road, and what comes of it on its way to the client.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, Abortable};
use mcp::json;
use mcp::message::{Envelope, EnvelopeError, Kind};
use mcp::method::Method;
use tokio::sync::mpsc;

use super::Duplex;
use crate::error::{Asked, Failure};
use crate::observe::Ending;
use crate::respond::{Reply, Said, joined};

impl Duplex {
    /// Takes a message of the client. Waits where too many are being taken already, or too much was not read: more of it
    /// would only wait as well.
    pub(super) async fn hear(self: &Rc<Self>, body: Bytes) {
        if self.room().await.is_none() {
            return;
        }
        let Ok(seat) = self.seats.clone().acquire_owned().await else { return };
        let duplex = Rc::clone(self);
        self.spawn(async move {
            duplex.take(&body).await;
            drop(seat);
        });
    }

    async fn take(self: &Rc<Self>, body: &Bytes) {
        let read = Envelope::parse(body);
        let Ok(envelope) = &read else {
            return match self.turn(matches!(read, Err(EnvelopeError::Batch))) {
                Ok(_turn) => self.answer(body, read, Asked::default()).await,
                Err(failure) => self.tell_failure(&failure, &Asked::default()).await,
            };
        };
        match (envelope.kind(), envelope.id) {
            (Kind::Request, Some(id)) => {
                let id = body.slice(mcp::message::span(body, id));
                self.request(id, body, read).await;
            }
            _ if self.cancels(envelope) => {}
            _ => self.answer(body, read, Asked::default()).await,
        }
    }

    /// A request can be cancelled while it is in flight, and its id is taken as long.
    async fn request(self: &Rc<Self>, id: Bytes, body: &Bytes, read: Result<Envelope<'_>, EnvelopeError>) {
        let asked = Asked { id: Some(id.clone()), ..Asked::default() };
        let turn = match self.turn(true) {
            Ok(turn) => turn,
            Err(failure) => return self.tell_failure(&failure, &asked).await,
        };
        let (handle, registration) = AbortHandle::new_pair();
        // In a legacy conversation the upstream is told, and may answer all the same.
        let handle = self.session.begun().is_none().then_some(handle);
        if self.requests.borrow().contains_key(&id) {
            let failure = Failure::Invalid("a request with this id is already in flight".to_owned());
            return self.tell_failure(&failure, &asked).await;
        }
        self.requests.borrow_mut().insert(id.clone(), handle);
        let in_flight = InFlight { duplex: self, id };
        // An error is that it was cancelled; nobody waits for its answer.
        let _cancelled: Result<(), _> = Abortable::new(self.answer(body, read, asked), registration).await;
        drop((in_flight, turn));
    }

    /// Room for a request, if this is one.
    fn turn(&self, is_request: bool) -> Result<Option<tokio::sync::SemaphorePermit<'_>>, Failure> {
        if !is_request {
            return Ok(None);
        }
        if self.worker.is_draining() {
            return Err(Failure::Draining);
        }
        self.turns.try_acquire().map(Some).map_err(|_| Failure::TooManyRequests)
    }

    /// Cancels the modern request that a notification names. False where it is no such notification.
    fn cancels(&self, envelope: &Envelope<'_>) -> bool {
        if envelope.method.as_deref() != Some(Method::Cancelled.as_str()) {
            return false;
        }
        let [id] = json::members(envelope.params.unwrap_or("{}"), ["requestId"]).unwrap_or_default();
        let requests = self.requests.borrow();
        let known = id.and_then(|id| requests.get(id.as_bytes()));
        match known {
            Some(Some(handle)) => {
                handle.abort();
                true
            }
            _ => false,
        }
    }

    async fn answer(
        self: &Rc<Self>,
        body: &Bytes,
        read: Result<Envelope<'_>, EnvelopeError>,
        mut asked: Asked,
    ) {
        let wants_answer =
            !matches!(&read, Ok(envelope) if matches!(envelope.kind(), Kind::Notification | Kind::Response));
        match (self.handler)(self, body, read, &mut asked).await {
            Ok(reply) => self.tell(reply).await,
            Err(failure) => {
                if matches!(failure, Failure::Bearer { .. } | Failure::Server | Failure::Stale) {
                    self.end(Ending::Unauthorized);
                }
                if wants_answer {
                    self.tell_failure(&failure, &asked).await;
                } else {
                    tracing::debug!(%failure, "refused a message that expects no response");
                }
            }
        }
    }

    async fn tell_failure(&self, failure: &Failure, asked: &Asked) {
        if let Some(reason) = failure.counts_as() {
            self.worker.shared.metrics.rejected(reason).inc();
        }
        self.say(failure.message(asked)).await;
    }

    /// Tells the client what came of a message, one message after the other.
    async fn tell(&self, reply: Reply) {
        match reply {
            Reply::Accepted | Reply::Done => {}
            Reply::Json { parts, .. } => {
                self.say(joined(parts)).await;
            }
            Reply::Events(mut events) => {
                while let Some(message) = events.message().await {
                    if !self.say(message).await {
                        return;
                    }
                }
            }
            Reply::Stream(mut sayings) => {
                while let Some(said) = sayings.next().await {
                    if let Said::Message(message) = said
                        && !self.say(message).await
                    {
                        return;
                    }
                }
            }
        }
    }

    /// Says one message to the client, as soon as there is room for it. False where nobody reads any more.
    async fn say(&self, message: Bytes) -> bool {
        let Some(room) = self.room().await else { return false };
        room.send(message);
        true
    }

    /// Room for one message to the client. Who has not read for so long that there is none is let go.
    async fn room(&self) -> Option<mpsc::Permit<'_, Bytes>> {
        let patience = self.worker.shared.limits.send_timeout;
        match tokio::time::timeout(patience, self.outbox.reserve()).await {
            Ok(room) => room.ok(),
            Err(_) => {
                self.end(Ending::NotReading);
                None
            }
        }
    }
}

/// A request that is in flight; dropping it frees its id.
struct InFlight<'a> {
    duplex: &'a Duplex,
    id: Bytes,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.duplex.requests.borrow_mut().remove(&self.id);
    }
}
