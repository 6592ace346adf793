//! Dispatches the messages of one channel to the calls that wait for them. It must not know how messages travel.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mcp::border::ids::Claim;
use mcp::border::{Mended, Peer, Skipped, Unreadable, ids, mend};
use mcp::json;
use mcp::message::{Envelope, EnvelopeError, Kind, split_batch};
use mcp::method::Method;
use mcp::quirk::{Quirk, Quirks};
use mcp::sse::Ends;
use tokio::sync::oneshot;

use super::{MAX_QUEUED, PING_ID, refusal};
use crate::collections::byte_queue::{self, NotQueued, Receiver, Sender};
use crate::error::Fault;
use crate::observe::Metrics;
use crate::upstream::mcp::MAX_KEPT;
use crate::upstream::mcp::rewrite::responses;
use crate::upstream::quirk_sink::QuirkSink;

/// The calls that wait for messages of one channel.
pub(super) struct Dispatcher {
    exclusive: bool,
    /// Bytes that wait for one call, besides its response.
    max_queued_bytes: usize,
    metrics: Arc<Metrics>,
    quirks: Rc<QuirkSink>,
    /// Whether the last message was skipped, and those that were since one could be read.
    skips: Cell<bool>,
    skipped: RefCell<Skipped<Box<str>>>,
    calls: RefCell<HashMap<u64, PendingCall>>,
    /// Whether a call ended without its response, which may come yet.
    abandoned: Cell<bool>,
    listener: RefCell<Option<Sender<Bytes>>>,
    /// Who waits for the answer to a ping.
    pinged: RefCell<Option<oneshot::Sender<Bytes>>>,
    closed: Cell<bool>,
    last_received: Cell<Instant>,
}

/// A call that waits.
pub(super) struct PendingCall {
    messages: Sender<Result<Bytes, Fault>>,
    /// Whether it was cancelled at the upstream.
    pub cancelled: bool,
}

impl PendingCall {
    /// Ends a call that is no longer registered.
    pub(super) fn fail(&self, fault: Fault) {
        let _: Result<(), _> = self.messages.try_send_last(Err(fault));
    }

    /// Ends a call that is no longer registered with its response. It is not read when the client has gone.
    pub(super) async fn answer(&self, response: Bytes) {
        let _: Result<(), _> = self.messages.send_last(Ok(response)).await;
    }
}

impl Dispatcher {
    pub(super) fn new(
        exclusive: bool,
        max_queued_bytes: usize,
        metrics: Arc<Metrics>,
        quirks: Rc<QuirkSink>,
    ) -> Self {
        Self {
            exclusive,
            max_queued_bytes,
            metrics,
            quirks,
            skips: Cell::new(false),
            skipped: RefCell::default(),
            calls: RefCell::default(),
            abandoned: Cell::new(false),
            listener: RefCell::default(),
            pinged: RefCell::default(),
            closed: Cell::new(false),
            last_received: Cell::new(Instant::now()),
        }
    }

    /// Whether it has one call at a time.
    pub(super) fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Whether no call waits.
    pub(super) fn is_idle(&self) -> bool {
        self.calls.borrow().is_empty()
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// The time of the last message.
    pub(super) fn last_received(&self) -> Instant {
        self.last_received.get()
    }

    /// Registers a call; returns its messages.
    pub(super) fn register(&self, number: u64) -> Result<Receiver<Result<Bytes, Fault>>, Fault> {
        if self.closed.get() {
            return Err(Fault::Interrupted);
        }
        let (messages, receiver) = byte_queue::channel(MAX_QUEUED, self.max_queued_bytes);
        self.calls.borrow_mut().insert(number, PendingCall { messages, cancelled: false });
        Ok(receiver)
    }

    /// Removes a call; returns it where it had no response.
    pub(super) fn unregister(&self, number: u64) -> Option<PendingCall> {
        let unanswered = self.take(number);
        self.abandoned.set(self.abandoned.get() || unanswered.is_some());
        unanswered
    }

    fn take(&self, number: u64) -> Option<PendingCall> {
        self.calls.borrow_mut().remove(&number)
    }

    /// Ends a call that is cancelled. Returns whether it was here.
    pub(super) fn cancel(&self, number: u64) -> bool {
        let mut calls = self.calls.borrow_mut();
        let Some(call) = calls.get_mut(&number) else { return false };
        call.cancelled = true;
        // A full queue ends it as well: its call is about to be dropped because its reader does not keep up.
        let _: Result<(), _> = call.messages.try_send_last(Err(Fault::Interrupted));
        true
    }

    /// Whether a call was cancelled here.
    pub(super) fn is_cancelled(&self, number: u64) -> bool {
        self.calls.borrow().get(&number).is_some_and(|call| call.cancelled)
    }

    /// Ends a call that could not be sent.
    pub(super) fn fail(&self, number: u64, fault: Fault) {
        if let Some(call) = self.take(number) {
            call.fail(fault);
        }
    }

    /// Listens to messages that belong to no call, in place of the previous listener.
    pub(super) fn listen(&self) -> Receiver<Bytes> {
        let (sender, receiver) = byte_queue::channel(MAX_QUEUED, self.max_queued_bytes);
        if !self.closed.get() {
            *self.listener.borrow_mut() = Some(sender);
        }
        receiver
    }

    /// Returns what resolves with the answer to the next ping, in the place of the one before.
    #[cold]
    pub(super) fn await_pong(&self) -> oneshot::Receiver<Bytes> {
        let (pinged, pong) = oneshot::channel();
        if !self.closed.get() {
            *self.pinged.borrow_mut() = Some(pinged);
        }
        pong
    }

    /// Takes a response that is no call's, if it is that to a ping.
    #[cold]
    fn take_pong(&self, response: Bytes) {
        if is_pong(&response)
            && let Some(pinged) = self.pinged.borrow_mut().take()
        {
            // Who waited may have gone.
            let _: Result<(), _> = pinged.send(response);
        }
    }

    /// Ends all calls. A response that was too large is the fault of the only call there is, or of none in particular.
    pub(super) fn close(&self, fault: &Fault) {
        self.closed.set(true);
        self.listener.borrow_mut().take();
        self.pinged.borrow_mut().take();
        let calls = std::mem::take(&mut *self.calls.borrow_mut());
        let fault = if calls.len() == 1 { fault.clone() } else { Fault::Interrupted };
        for call in calls.into_values() {
            let _: Result<(), _> = call.messages.try_send_last(Err(fault.clone()));
        }
    }

    /// Dispatches a message, or a batch of them. The message that is returned is to be sent back. Fails where nothing can be
    /// read any more.
    pub(super) async fn dispatch(&self, source: Bytes) -> Result<Option<Bytes>, Fault> {
        self.last_received.set(Instant::now());
        if !source.trim_ascii_start().starts_with(b"[") {
            return self.dispatch_one(source).await;
        }
        let Ok(parts) = split_batch(&source) else { return self.dispatch_one(source).await };
        let mut replies = Vec::new();
        for part in parts {
            replies.extend(self.dispatch_one(source.slice(part)).await?);
        }
        if replies.len() <= 1 {
            return Ok(replies.pop());
        }
        Ok(Some([b"[", replies.join(&b','.to_owned()).as_slice(), b"]"].concat().into()))
    }

    /// Takes the body of the response to a post, if it is the response to a call. Most servers only say there that they have taken
    /// the message, in whatever words.
    #[cold]
    pub(super) async fn take_answer(&self, mut body: Bytes, is_labelled: bool, number: Option<u64>) {
        let mut is_plain = is_labelled;
        if let Err(error) = Envelope::parse(&body) {
            // A post has one message, whose answer this is.
            let open = number.map(|number| number.to_string());
            let Ok(mended) = mend(&body, error, Peer::Server { open: open.as_deref() }) else { return };
            self.quirks.note_all(mended.quirks, &body);
            body = mended.message;
            is_plain &= mended.quirks == Quirks::from(Quirk::NullMembers);
        }
        let Ok(envelope) = Envelope::parse(&body) else { return };
        if !is_plain && envelope.result.is_some_and(|result| !tells_something(result)) {
            return;
        }
        let waits =
            |id: &str| self.pending(id).is_some_and(|number| self.calls.borrow().contains_key(&number));
        if envelope.kind() == Kind::Response && envelope.id.is_some_and(waits) {
            self.quirks.note(Quirk::AnswersInPost, "");
            // It is read, so that nothing is to be sent back.
            let _: Result<_, _> = self.dispatch_one(body).await;
        }
    }

    async fn dispatch_one(&self, mut message: Bytes) -> Result<Option<Bytes>, Fault> {
        loop {
            let error = match Envelope::parse(&message) {
                Ok(envelope) => {
                    if self.skips.replace(false) {
                        self.skipped.borrow_mut().clear();
                    }
                    let method = envelope.method.as_deref().and_then(Method::parse);
                    match (envelope.kind(), envelope.id) {
                        (Kind::Response, Some(id)) => {
                            let call = self.pending(id).and_then(|number| self.take(number));
                            match call {
                                Some(call) => call.answer(message).await,
                                None => self.take_pong(message),
                            }
                        }
                        // An error without an id is about the only call there is, unless one before it may still have its
                        // response to come; a result may be anybody's.
                        (Kind::Response, None) if envelope.error.is_none() || self.abandoned.get() => {}
                        (Kind::Response, None) if self.is_idle() => self.take_pong(message),
                        (Kind::Response, None) => self.send_to_only_call(message).await,
                        (Kind::Request, Some(id)) if id.len() > MAX_KEPT => {
                            return Ok(responses::refuse_long_id(id));
                        }
                        (Kind::Request, Some(id)) if method == Some(Method::Ping) => {
                            return Ok(Some(responses::pong(id)));
                        }
                        (Kind::Request, Some(id)) if !self.exclusive || self.is_idle() => {
                            return Ok(Some(refusal(id)));
                        }
                        (Kind::Notification, _) if method == Some(Method::Progress) && !self.exclusive => {
                            self.send_progress(self.progress_of(envelope.params), message);
                        }
                        (Kind::Notification, _) if !self.exclusive || self.is_idle() => {
                            self.send_to_listener(message);
                        }
                        _ => self.send_to_only_call(message).await,
                    }
                    return Ok(None);
                }
                Err(error) => error,
            };
            match self.mended(&message, error)? {
                Some(mended) => message = mended,
                None => return Ok(None),
            }
        }
    }

    /// Returns what the upstream meant with a message that cannot be read; `None` where that is not plain, and the message is
    /// skipped: no message ends the calls of others.
    #[cold]
    fn mended(&self, message: &Bytes, error: EnvelopeError) -> Result<Option<Bytes>, Fault> {
        match mend(message, error, Peer::Server { open: None }) {
            Ok(Mended { message: mended, quirks }) => {
                self.quirks.note_all(quirks, message);
                Ok(Some(mended))
            }
            Err(unreadable) => self.skip(message, &unreadable).map(|()| None),
        }
    }

    fn skip(&self, message: &[u8], unreadable: &Unreadable) -> Result<(), Fault> {
        let quoted = || unreadable.quoted(message, self.quirks.secrets());
        if let Some(number) = self.known(ids::claimed(message)) {
            self.fail(number, Fault::Malformed(quoted()));
            return Ok(());
        }
        self.quirks.note(Quirk::UnreadableMessages, message);
        self.skips.set(true);
        let added = self.skipped.borrow_mut().add(unreadable.length, || quoted().into());
        added.map_err(|first| Fault::Malformed(first.into()))
    }

    /// Ends the call whose answer was too large, if it can be told whose it was: others go on.
    #[cold]
    pub(super) fn set_aside(&self, too_large: &Ends) {
        self.last_received.set(Instant::now());
        let number = match ids::claim_of_ends(&too_large.first, &too_large.last) {
            Claim::Answer(number) => Some(number),
            Claim::NoAnswer => None,
            Claim::Unknown => self.only_call(),
        };
        match number {
            Some(number) => self.fail(number, Fault::TooLarge),
            None => tracing::debug!("skipped a message that is too large"),
        }
    }

    /// The only call there is, unless one before it may still have its response to come.
    fn only_call(&self) -> Option<u64> {
        let calls = self.calls.borrow();
        calls.keys().next().copied().filter(|_| calls.len() == 1 && !self.abandoned.get())
    }

    /// The call that waits for the response with this raw id.
    fn pending(&self, id: &str) -> Option<u64> {
        match id.parse() {
            Ok(number) => Some(number),
            Err(_) => self.respelt(id),
        }
    }

    fn known(&self, number: Option<u64>) -> Option<u64> {
        number.filter(|number| self.calls.borrow().contains_key(number))
    }

    /// The call whose number is spelled so.
    #[cold]
    fn respelt(&self, raw: &str) -> Option<u64> {
        let number = self.known(ids::number(raw))?;
        self.quirks.note(Quirk::IdsRespelt, raw);
        Some(number)
    }

    /// The call that raw params of progress are about.
    fn progress_of(&self, params: Option<&str>) -> Option<u64> {
        let [raw] = json::members(params?, ["progressToken"]).ok()?;
        self.pending(raw?)
    }

    /// Sends progress, and keeps the last place in the queue for the response. Drops it where the client does not keep up: a
    /// reader that waited would hold up other calls.
    fn send_progress(&self, number: Option<u64>, message: Bytes) {
        let calls = self.calls.borrow();
        let Some(call) = number.and_then(|number| calls.get(&number)) else { return };
        if let Err(NotQueued { closed: false }) = call.messages.try_send_but_one(Ok(message)) {
            self.metrics.progress_dropped.inc();
        }
    }

    /// Sends a message to the only call. Waits for a slow reader, which holds up no other call.
    async fn send_to_only_call(&self, message: Bytes) {
        let only = {
            let calls = self.calls.borrow();
            let mut all = calls.values();
            all.next().filter(|_| calls.len() == 1).map(|call| call.messages.clone())
        };
        if let Some(only) = only {
            let _: Result<(), _> = only.send(Ok(message)).await;
        }
    }

    /// Sends a message to the listener, which is removed when it does not keep up.
    fn send_to_listener(&self, message: Bytes) {
        self.listener.borrow_mut().take_if(|listener| listener.try_send(message).is_err());
    }
}

/// Whether a response is the one to a ping, or an error that says not to what.
#[cold]
pub(super) fn is_pong(response: &[u8]) -> bool {
    Envelope::parse(response).is_ok_and(|envelope| match envelope.id {
        Some(id) => envelope.kind() == Kind::Response && id == PING_ID,
        None => envelope.error.is_some(),
    })
}

/// Whether a result has what results of the protocol have.
fn tells_something(result: &str) -> bool {
    const MEMBERS: [&str; 12] = [
        "protocolVersion",
        "content",
        "structuredContent",
        "task",
        "taskId",
        "tools",
        "resources",
        "resourceTemplates",
        "prompts",
        "contents",
        "messages",
        "completion",
    ];
    mcp::json::members(result, MEMBERS).is_ok_and(|found| found.iter().any(Option::is_some))
}

#[cfg(test)]
mod tests {
    use mcp::secrets::Secrets;

    use super::*;

    fn dispatcher(exclusive: bool, max_queued_bytes: usize, metrics: &Arc<Metrics>) -> Dispatcher {
        let quirks = QuirkSink::new("u", Secrets::default(), Arc::clone(metrics));
        Dispatcher::new(exclusive, max_queued_bytes, Arc::clone(metrics), Rc::new(quirks))
    }

    fn progress(bytes: usize) -> Bytes {
        let text = "x".repeat(bytes);
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":1,"message":"{text}"}}}}"#).into()
    }

    fn response() -> Bytes {
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{}"}}"#, "x".repeat(1_000)).into()
    }

    #[tokio::test]
    async fn progress_that_a_slow_client_leaves_waiting_is_bounded_in_bytes() {
        let metrics = Arc::new(Metrics::default());
        let dispatcher = dispatcher(false, 1_000, &metrics);
        let mut messages = dispatcher.register(1).unwrap();
        for _ in 0..20 {
            assert_eq!(dispatcher.dispatch(progress(300)).await, Ok(None));
        }
        // The response finds a place without waiting, so that the channel goes on for the other calls.
        assert_eq!(dispatcher.dispatch(response()).await, Ok(None));
        let (mut kept, mut last) = (0, Bytes::new());
        while let Some(Ok(message)) = messages.recv().await {
            (kept, last) = (kept + 1, message);
        }
        assert_eq!((kept, last, metrics.progress_dropped.get()), (3, response(), 18));
    }

    #[tokio::test]
    async fn where_there_is_one_call_the_upstream_waits_for_its_client() {
        let dispatcher = dispatcher(true, 1_000, &Arc::default());
        let mut messages = dispatcher.register(1).unwrap();
        let sending = async {
            for _ in 0..20 {
                dispatcher.dispatch(progress(300)).await.unwrap();
            }
            dispatcher.dispatch(response()).await.unwrap();
        };
        let reading = async {
            let mut kept = 0;
            while messages.recv().await.is_some() {
                kept += 1;
            }
            kept
        };
        assert_eq!(tokio::join!(sending, reading).1, 21);
    }

    #[tokio::test]
    async fn a_long_id_is_refused_and_a_short_one_answered() {
        let dispatcher = dispatcher(false, 1_000, &Arc::default());
        let ping = |length| -> Bytes {
            format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "i".repeat(length)).into()
        };
        let long = dispatcher.dispatch(ping(MAX_KEPT)).await.unwrap().unwrap();
        assert!(long.len() < 200 && long.windows(6).any(|part| part == b"-32600"), "{long:?}");
        assert!(dispatcher.dispatch(ping(MAX_KEPT - 2)).await.unwrap().unwrap().len() > MAX_KEPT);
    }
}
