//! Who waits for what on one channel. It must not know how messages travel.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use mcp::message::{Envelope, Kind, split_batch};
use mcp::method::Method;
use tokio::sync::mpsc;

use super::{MAX_WAITING, number, refusal};
use crate::error::Fault;

/// Who waits for what on one channel.
pub(super) struct Desk {
    alone: bool,
    calls: RefCell<HashMap<u64, Waiting>>,
    listener: RefCell<Option<mpsc::Sender<Bytes>>>,
    over: Cell<bool>,
    heard: Cell<Instant>,
}

/// A call that waits.
pub(super) struct Waiting {
    messages: mpsc::Sender<Result<Bytes, Fault>>,
    /// Whether the upstream knows that nobody wants its answer.
    pub cancelled: bool,
}

impl Desk {
    pub(super) fn new(alone: bool) -> Self {
        Self {
            alone,
            calls: RefCell::default(),
            listener: RefCell::default(),
            over: Cell::new(false),
            heard: Cell::new(Instant::now()),
        }
    }

    /// Whether calls come one at a time.
    pub(super) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether no call waits.
    pub(super) fn is_idle(&self) -> bool {
        self.calls.borrow().is_empty()
    }

    /// Whether nothing comes any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// When something came last.
    pub(super) fn heard(&self) -> Instant {
        self.heard.get()
    }

    /// Waits for what comes for a call.
    pub(super) fn expect(&self, number: u64) -> Result<mpsc::Receiver<Result<Bytes, Fault>>, Fault> {
        if self.over.get() {
            return Err(Fault::Interrupted);
        }
        let (messages, receiver) = mpsc::channel(MAX_WAITING);
        self.calls.borrow_mut().insert(number, Waiting { messages, cancelled: false });
        Ok(receiver)
    }

    /// Waits for it no longer. What is returned was not answered.
    pub(super) fn leave(&self, number: u64) -> Option<Waiting> {
        self.calls.borrow_mut().remove(&number)
    }

    /// Ends a call that nobody wants answered. Answers whether it was here.
    pub(super) fn cancel(&self, number: u64) -> bool {
        let mut calls = self.calls.borrow_mut();
        let Some(call) = calls.get_mut(&number) else { return false };
        call.cancelled = true;
        // A queue that is full ends it as well: its call is about to be dropped by who reads it not.
        let _: Result<(), _> = call.messages.try_send(Err(Fault::Interrupted));
        true
    }

    /// Whether a call was cancelled here.
    pub(super) fn is_cancelled(&self, number: u64) -> bool {
        self.calls.borrow().get(&number).is_some_and(|call| call.cancelled)
    }

    /// Ends a call that could not be sent.
    pub(super) fn fail(&self, number: u64, fault: Fault) {
        if let Some(call) = self.leave(number) {
            let _: Result<(), _> = call.messages.try_send(Err(fault));
        }
    }

    /// Hears what belongs to no call, instead of whoever did before.
    pub(super) fn listen(&self) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        if !self.over.get() {
            *self.listener.borrow_mut() = Some(sender);
        }
        receiver
    }

    /// Ends everything. An answer that was too large is the fault of the one call there is, or of nobody known.
    pub(super) fn end(&self, why: &Fault) {
        self.over.set(true);
        self.listener.borrow_mut().take();
        let calls = std::mem::take(&mut *self.calls.borrow_mut());
        let fault = if calls.len() == 1 { why.clone() } else { Fault::Interrupted };
        for call in calls.into_values() {
            let _: Result<(), _> = call.messages.try_send(Err(fault.clone()));
        }
    }

    /// Leads what came to whom it is for. What is returned is to be replied.
    pub(super) async fn lead(&self, source: Bytes) -> Result<Option<Bytes>, Fault> {
        self.heard.set(Instant::now());
        if !source.trim_ascii_start().starts_with(b"[") {
            return self.lead_one(source).await;
        }
        let parts = split_batch(&source).map_err(|error| Fault::Malformed(error.to_string()))?;
        let mut replies = Vec::new();
        for part in parts {
            replies.extend(self.lead_one(source.slice(part)).await?);
        }
        if replies.len() <= 1 {
            return Ok(replies.pop());
        }
        Ok(Some([b"[", replies.join(&b','.to_owned()).as_slice(), b"]"].concat().into()))
    }

    async fn lead_one(&self, message: Bytes) -> Result<Option<Bytes>, Fault> {
        let envelope = Envelope::parse(&message).map_err(|error| Fault::Malformed(error.to_string()))?;
        let method = envelope.method.as_deref().and_then(Method::parse);
        match (envelope.kind(), envelope.id) {
            (Kind::Response, Some(id)) => {
                let call = id.parse().ok().and_then(|number| self.leave(number));
                if let Some(call) = call {
                    // Nobody reads it when the client has gone.
                    let _: Result<(), _> = call.messages.send(Ok(message)).await;
                }
            }
            // An error without an id is about the only call there is.
            (Kind::Response, None) => self.tell_the_only(message).await,
            (Kind::Request, Some(id)) if method == Some(Method::Ping) => {
                return Ok(Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#).into()));
            }
            (Kind::Request, Some(id)) if !self.alone || self.is_idle() => return Ok(Some(refusal(id))),
            (Kind::Notification, _) if method == Some(Method::Progress) => {
                self.tell_progress(number(envelope.params, "progressToken"), message);
            }
            (Kind::Notification, _) if !self.alone || self.is_idle() => self.tell_listener(message),
            _ => self.tell_the_only(message).await,
        }
        Ok(None)
    }

    /// The last place in a queue is for the answer.
    fn tell_progress(&self, number: Option<u64>, message: Bytes) {
        let calls = self.calls.borrow();
        let call = number.and_then(|number| calls.get(&number));
        if let Some(call) = call.filter(|call| call.messages.capacity() > 1) {
            let _: Result<(), _> = call.messages.try_send(Ok(message));
        }
    }

    /// Waits where it does not keep up: it holds up nobody but itself.
    async fn tell_the_only(&self, message: Bytes) {
        let only = {
            let calls = self.calls.borrow();
            let mut all = calls.values();
            all.next().filter(|_| calls.len() == 1).map(|call| call.messages.clone())
        };
        if let Some(only) = only {
            let _: Result<(), _> = only.send(Ok(message)).await;
        }
    }

    /// One that does not keep up is told no more.
    fn tell_listener(&self, message: Bytes) {
        self.listener.borrow_mut().take_if(|listener| listener.try_send(message).is_err());
    }
}
