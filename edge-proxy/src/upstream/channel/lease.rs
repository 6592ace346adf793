//! A call's share of a channel: what comes for it, and the place where its client's answers are brought.
//!
//! A call that is dropped before its answer came is called off at the upstream.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mcp::message::{Envelope, Kind};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::AbortHandle;

use super::Channel;
use crate::error::Fault;
use crate::held::{Held, Place};

/// A call's share of a channel.
pub(in super::super) struct Lease {
    pub(super) channel: Rc<Channel>,
    pub(super) number: u64,
    held: Arc<Held>,
    answers: RefCell<Option<(Place, AbortHandle)>>,
    _room: Option<OwnedSemaphorePermit>,
}

/// What comes for one call.
pub(in super::super) struct Messages {
    pub(super) lease: Rc<Lease>,
    receiver: mpsc::Receiver<Result<Bytes, Fault>>,
    ahead: Option<Bytes>,
    timeout: Duration,
    last: Instant,
    /// Whether the client was asked something and has not answered: it may take its time.
    asked: bool,
}

impl Lease {
    pub(super) fn new(
        channel: Rc<Channel>,
        number: u64,
        held: Arc<Held>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { channel, number, held, answers: RefCell::default(), _room: room }
    }

    /// Says something in the session of the call.
    pub(in super::super) fn say(&self, message: Bytes) {
        self.channel.post(None, message);
    }

    /// Calls the call off, in these words.
    pub(in super::super) fn call_off(&self, notification: Bytes) {
        if self.channel.desk.cancel(self.number) {
            self.say(notification);
        }
    }

    /// Where answers to what the upstream asks in this call are brought; `None` when this edge holds too much.
    pub(in super::super) fn place(&self) -> Option<Place> {
        if let Some((place, _)) = &*self.answers.borrow() {
            return Some(place.clone());
        }
        let mut holding = self.held.hold()?;
        let place = holding.place();
        let channel = Rc::clone(&self.channel);
        let bringing = tokio::task::spawn_local(async move {
            loop {
                channel.post(None, holding.next().await.message);
            }
        });
        *self.answers.borrow_mut() = Some((place.clone(), bringing.abort_handle()));
        Some(place)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((_, bringing)) = self.answers.borrow_mut().take() {
            bringing.abort();
        }
        let Some(waiting) = self.channel.desk.leave(self.number) else { return };
        if !waiting.cancelled {
            let number = self.number;
            let body = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number},"reason":"no answer in time"}}}}"#
            );
            self.channel.post(None, body.into());
        }
        if self.channel.desk.is_alone() {
            // What still comes for this call must not be taken for the next one's.
            self.channel.desk.end(&Fault::Interrupted);
        } else if !waiting.cancelled {
            self.channel.check();
        }
    }
}

impl Messages {
    pub(super) fn new(
        lease: Lease,
        receiver: mpsc::Receiver<Result<Bytes, Fault>>,
        timeout: Duration,
    ) -> Self {
        let lease = Rc::new(lease);
        Self { lease, receiver, ahead: None, timeout, last: Instant::now(), asked: false }
    }

    /// The share that they come through.
    pub(in super::super) fn lease(&self) -> Rc<Lease> {
        Rc::clone(&self.lease)
    }

    /// Waits so long between two messages from now on.
    pub(in super::super) fn be_patient(&mut self, timeout: Duration) {
        (self.timeout, self.last, self.asked) = (timeout, Instant::now(), false);
    }

    /// Waits for the first message, which is kept.
    pub(super) async fn first(&mut self) -> Result<(), Fault> {
        self.ahead = Some(self.next().await?);
        Ok(())
    }

    /// The response, whatever comes before it.
    pub(in super::super) async fn response(&mut self) -> Result<Bytes, Fault> {
        loop {
            let message = self.next().await?;
            if Envelope::parse(&message).is_ok_and(|envelope| envelope.kind() == Kind::Response) {
                return Ok(message);
            }
        }
    }

    /// The next message. What was waited is kept when the future is dropped and made anew.
    pub(in super::super) async fn next(&mut self) -> Result<Bytes, Fault> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(ahead);
        }
        let came = if self.asked {
            self.receiver.recv().await
        } else {
            let left = self.timeout.saturating_sub(self.last.elapsed());
            tokio::time::timeout(left, self.receiver.recv()).await.map_err(|_| Fault::Timeout)?
        };
        self.last = Instant::now();
        let message = came.unwrap_or(Err(Fault::Interrupted))?;
        self.asked = Envelope::parse(&message).is_ok_and(|envelope| envelope.kind() == Kind::Request);
        Ok(message)
    }
}
