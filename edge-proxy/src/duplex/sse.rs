//! HTTP+SSE of 2024-11-05: the edge speaks on one stream, and the client posts to the address that it is told first.
//!
//! A post may meet another edge; it is brought to the one that holds the stream.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode};
use mcp::message::{Envelope, EnvelopeError};
use mcp::sse::{self, Event, KEEP_ALIVE};

use super::{Duplex, Handler, Root};
use crate::error::Failure;
use crate::held::{Delivery, Holding, Undelivered};
use crate::observe::{Ending, Transport};
use crate::respond::events_stream;
use crate::scene::Scene;
use crate::session::mailbox;
use crate::transport::{Body, Wire, unreadable};

/// How long a client has for what was written before its stream ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// Opens a stream, which is a session.
pub fn open(
    scene: &Scene<'_>,
    bearer: &str,
    wire: &Rc<Wire>,
    handler: Handler,
) -> Result<Response<Body>, Failure> {
    let shared = &scene.worker.shared;
    let root = Root::open(scene, Transport::Sse, bearer, handler)?;
    let holding = shared.peers.held().hold().ok_or(Failure::Overloaded)?;
    let handle = mailbox::seal(&scene.snapshot.trust, scene.owner(), &holding.place())
        .map_err(|error| Failure::Internal(error.to_string()))?;
    let address = shared.door.public(&format!("/servers/{}/sse/{handle}", scene.view.server.id));
    let duplex = &root.duplex;
    duplex.spawn(collect(Rc::clone(duplex), holding));
    duplex.spawn(cut_when_over(Rc::clone(duplex), Rc::clone(wire)));
    Ok(events_stream(Box::pin(stream::unfold((root, Some(address)), |(mut root, address)| async move {
        let event = match address {
            Some(address) => event("endpoint", address.into()),
            None => root.next_event().await?,
        };
        Some((event, (root, None)))
    }))))
}

/// Brings a message to the stream that `handle` names.
pub async fn post(scene: &Scene<'_>, handle: &str, message: Bytes) -> Result<Response<Body>, Failure> {
    let place = mailbox::open(&scene.snapshot.trust, scene.owner(), handle).ok_or(Failure::Disconnected)?;
    match Envelope::parse(&message) {
        // Whether there are batches is up to the conversation.
        Ok(_) | Err(EnvelopeError::Batch) => {}
        Err(error) => return Err(unreadable(error)),
    }
    let delivered = scene.worker.shared.peers.deliver(&place, Delivery { message, answers: None }).await;
    delivered.map_err(|undelivered| match undelivered {
        Undelivered::Gone => Failure::Disconnected,
        Undelivered::Full => Failure::Overloaded,
    })?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// Takes what is posted, at whichever edge.
async fn collect(duplex: Rc<Duplex>, mut holding: Holding) {
    loop {
        let delivery = holding.next().await;
        duplex.hear(delivery.message).await;
    }
}

/// A stream that nobody reads does not notice that it is over.
async fn cut_when_over(duplex: Rc<Duplex>, wire: Rc<Wire>) {
    let mut ending = duplex.ending.subscribe();
    let is_over = ending.wait_for(Option::is_some).await.map(|ending| *ending);
    if !matches!(is_over, Ok(Some(Ending::NotReading))) {
        tokio::time::sleep(FAREWELL).await;
    }
    wire.cut();
}

impl Root {
    /// What is written next, or `None` at the end.
    async fn next_event(&mut self) -> Option<Bytes> {
        let silence = self.duplex.worker.shared.limits.keep_alive;
        let (outbox, ending) = (&mut self.outbox, &mut self.ending);
        let message = tokio::select! {
            biased;
            message = outbox.recv() => message?,
            // What was said before the end is still written.
            _ = ending.wait_for(Option::is_some) => outbox.try_recv().ok()?,
            () = tokio::time::sleep(silence) => return Some(Bytes::from_static(KEEP_ALIVE)),
        };
        Some(event("message", message))
    }
}

fn event(kind: &'static str, data: Bytes) -> Bytes {
    sse::encode(&Event { event: Some(Bytes::from_static(kind.as_bytes())), data, ..Event::default() })
}
