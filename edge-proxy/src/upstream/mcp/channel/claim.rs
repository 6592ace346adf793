//! The claim of a call on a channel: the messages for it, and the address of its client's responses.
//!
//! A call that is dropped before its response came is cancelled at the upstream.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use mcp::message::{Envelope, Kind};
use mcp::session_loss::Refusal;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;

use super::Channel;
use crate::collections::byte_queue::Receiver;
use crate::error::Fault;
use crate::fleet::Waiters;
use crate::session::WaiterAddress;

/// The claim of a call on a channel.
pub(in crate::upstream) struct ChannelClaim {
    pub(super) channel: Rc<Channel>,
    pub(super) number: u64,
    waiters: Arc<Waiters>,
    answers: RefCell<Option<(WaiterAddress, AbortHandle)>>,
    _slot: Option<OwnedSemaphorePermit>,
}

/// The messages for one call.
pub(in crate::upstream) struct CallMessages {
    pub(super) claim: Rc<ChannelClaim>,
    receiver: Receiver<Result<Bytes, Fault>>,
    buffered: Option<Bytes>,
    timeout: Duration,
    last: Instant,
    /// Whether the client has a request to answer, for which it has time.
    awaits_response: bool,
    /// Whether the last message was an error.
    is_error: bool,
}

impl ChannelClaim {
    pub(super) fn new(
        channel: Rc<Channel>,
        number: u64,
        waiters: Arc<Waiters>,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { channel, number, waiters, answers: RefCell::default(), _slot: slot }
    }

    /// Sends a message in the session of the call.
    pub(in super::super) fn send(&self, message: Bytes) {
        self.channel.send(None, message);
    }

    /// Responds to a request of the upstream. Waits, until then, for room among the responses before it. Cancel safe.
    pub(in super::super) async fn reply(
        &self,
        message: Bytes,
        until: tokio::time::Instant,
    ) -> Result<(), Fault> {
        self.channel.reply(message, until).await
    }

    /// Cancels the call with this notification.
    pub(in super::super) fn cancel(&self, notification: Bytes) {
        if self.channel.dispatcher.cancel(self.number) {
            self.send(notification);
        }
    }

    /// Returns the address of responses to the upstream's requests in this call; `None` when this edge holds too many.
    pub(in super::super) fn reply_address(&self) -> Option<WaiterAddress> {
        if let Some((reply_address, _)) = &*self.answers.borrow() {
            return Some(reply_address.clone());
        }
        let mut waiter = self.waiters.register()?;
        let reply_address = waiter.address();
        let channel = Rc::clone(&self.channel);
        let forwarding = tokio::task::spawn_local(async move {
            loop {
                // One after the other: those that the upstream does not take yet wait at the waiter.
                let message = waiter.next().await.message;
                if let Err(fault) = channel.outgoing.send(message).await {
                    tracing::debug!(%fault, "cannot send the response of a client on a channel");
                }
            }
        });
        *self.answers.borrow_mut() = Some((reply_address.clone(), forwarding.abort_handle()));
        Some(reply_address)
    }
}

impl Drop for ChannelClaim {
    fn drop(&mut self) {
        if let Some((_, forwarding)) = self.answers.borrow_mut().take() {
            forwarding.abort();
        }
        self.channel.refusals.borrow_mut().remove(&self.number);
        let Some(waiting) = self.channel.dispatcher.unregister(self.number) else { return };
        if !waiting.cancelled {
            let number = self.number;
            let body = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number},"reason":"no response in time"}}}}"#
            );
            self.channel.send(None, body.into());
        }
        if self.channel.dispatcher.is_exclusive() {
            // Late messages for this call must not be taken for the next one's.
            self.channel.dispatcher.close(&Fault::Interrupted);
        } else if !waiting.cancelled {
            self.channel.check_alive();
        }
    }
}

impl CallMessages {
    pub(super) fn new(
        claim: ChannelClaim,
        receiver: Receiver<Result<Bytes, Fault>>,
        timeout: Duration,
    ) -> Self {
        let claim = Rc::new(claim);
        let last = Instant::now();
        Self { claim, receiver, buffered: None, timeout, last, awaits_response: false, is_error: false }
    }

    /// The claim that they come through.
    pub(in super::super) fn claim(&self) -> Rc<ChannelClaim> {
        Rc::clone(&self.claim)
    }

    /// Sets the longest silence between two messages, from now on.
    pub(in super::super) fn set_timeout(&mut self, timeout: Duration) {
        (self.timeout, self.last, self.awaits_response) = (timeout, Instant::now(), false);
    }

    /// Waits for the first message, and keeps it for the next reader.
    pub(super) async fn first(&mut self) -> Result<(), Fault> {
        self.buffered = Some(self.next().await?);
        Ok(())
    }

    /// Whether the first message is an error.
    pub(super) fn begins_with_error(&self) -> bool {
        self.is_error
    }

    /// How the call was refused, if it was before any other message came.
    #[cold]
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let ChannelClaim { channel, number, .. } = &*self.claim;
        let of_post = channel.refusals.borrow().get(number).copied();
        let message = self.buffered.as_ref().filter(|_| self.is_error);
        of_post.or_else(|| message.map(|message| Refusal::read(StatusCode::OK.as_u16(), message)))
    }

    /// Returns the response, and drops messages before it.
    pub(in super::super) async fn response(&mut self) -> Result<Bytes, Fault> {
        loop {
            let message = self.next().await?;
            if Envelope::parse(&message).is_ok_and(|envelope| envelope.kind() == Kind::Response) {
                return Ok(message);
            }
        }
    }

    /// Returns the next message. Cancel safe: the timeout goes on from the last message.
    pub(in super::super) async fn next(&mut self) -> Result<Bytes, Fault> {
        if let Some(buffered) = self.buffered.take() {
            return Ok(buffered);
        }
        let came = if self.awaits_response {
            self.receiver.recv().await
        } else {
            let left = self.timeout.saturating_sub(self.last.elapsed());
            tokio::time::timeout(left, self.receiver.recv()).await.map_err(|_| Fault::Timeout)?
        };
        self.last = Instant::now();
        let message = came.unwrap_or(Err(Fault::Interrupted))?;
        let envelope = Envelope::parse(&message);
        self.is_error = envelope.as_ref().is_ok_and(|envelope| envelope.error.is_some());
        self.awaits_response = envelope.is_ok_and(|envelope| envelope.kind() == Kind::Request);
        Ok(message)
    }
}
