//! The stream of a legacy session on which the upstream sends messages outside of responses: log messages and requests.
//!
//! Most of its messages do not say which call they belong to, so they are passed on only where a session belongs to one
//! conversation. Progress says it: servers on older Python SDKs send all of it here, so a session that is shared has such a stream
//! as well, once a call wants progress.
//! It must not know how they reach the client.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method as Verb, StatusCode};
use mcp::border::{Media, ids};
use mcp::error as codes;
use mcp::json;
use mcp::message::{Envelope, Kind};
use mcp::method::Method;
use mcp::quirk::Quirk;
use mcp::sse::Event;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::upstream_session::{UpstreamSession, post_sender};
use crate::collections::byte_queue::{self, Receiver, Sender};
use crate::error::Fault;
use crate::upstream::connect::{HttpPool, HttpResponse, Retry};
use crate::upstream::mcp::MAX_KEPT;
use crate::upstream::mcp::event_stream::EventStream;
use crate::upstream::mcp::rewrite::responses;

/// Largest message.
const MAX_EVENT: usize = 256 << 10;
/// Messages that wait for one client; further ones are dropped or refused.
const MAX_QUEUED: usize = 256;
const MAX_QUEUED_BYTES: usize = 1 << 20;
/// Longest silence of the stream.
const MAX_SILENCE: Duration = Duration::from_secs(24 * 3_600);
/// First and longest pause before a stream that ended, or was not given, is opened again. The pauses double.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Longest wait of a call for the stream to open.
const OPEN_TIMEOUT: Duration = Duration::from_millis(500);
/// The interval at which it is seen whether calls still wait for messages, before their stream is opened anew.
const LEAVE_EVERY: Duration = Duration::from_millis(100);
/// Messages and the response to a call come on two streams: how much later the former may come.
const LATE_MESSAGE_WINDOW: Duration = Duration::from_millis(25);

/// The calls in flight of one session that want its messages. The youngest receives those that do not say whom they are for.
#[derive(Clone, Default)]
pub(in crate::upstream) struct MessageSubscribers(Rc<RefCell<Vec<Subscriber>>>);

struct Subscriber {
    /// The number of its call, which is the call's progress token as well.
    number: u64,
    messages: Sender<Bytes>,
}

/// Who makes calls in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionUse {
    /// One conversation.
    Own,
    /// Several: messages that do not say which call they belong to are nobody's.
    Shared,
}

/// The messages on the server stream during a call.
pub(in crate::upstream) struct ServerMessages {
    messages: Receiver<Bytes>,
    /// A message that was taken too soon.
    first: Option<Bytes>,
    answer: Option<Event>,
    session: SessionUse,
}

impl MessageSubscribers {
    /// Subscribes the call of this number to the messages from now on.
    pub(super) fn subscribe(&self, number: u64, session: SessionUse) -> ServerMessages {
        let (sender, messages) = byte_queue::channel(MAX_QUEUED, MAX_QUEUED_BYTES);
        let mut subscribers = self.0.borrow_mut();
        subscribers.retain(|subscriber| !subscriber.messages.is_closed());
        subscribers.push(Subscriber { number, messages: sender });
        ServerMessages { messages, first: None, answer: None, session }
    }

    /// Whether a call is in flight.
    pub(super) fn are_waiting(&self) -> bool {
        self.0.borrow().iter().any(|subscriber| !subscriber.messages.is_closed())
    }

    /// Sends a message to the youngest call. Returns whether there was one.
    fn send(&self, message: Bytes) -> bool {
        let mut subscribers = self.0.borrow_mut();
        subscribers.retain(|subscriber| !subscriber.messages.is_closed());
        subscribers.last().is_some_and(|youngest| youngest.messages.try_send(message).is_ok())
    }

    /// Sends progress to the call that has this raw token. Returns whether there is one.
    fn send_progress(&self, token: &str, message: Bytes) -> bool {
        let subscribers = self.0.borrow();
        let call = subscribers.iter().find(|subscriber| ids::denotes(token, subscriber.number).is_some());
        call.is_some_and(|call| call.messages.try_send(message).is_ok())
    }
}

impl ServerMessages {
    /// Returns the next message. Cancel safe.
    pub(in crate::upstream) async fn next(&mut self) -> Bytes {
        if let Some(first) = self.first.take() {
            return first;
        }
        match self.messages.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }

    /// Makes a message the next one again.
    pub(in crate::upstream) fn put_back(&mut self, message: Bytes) {
        self.first = Some(message);
    }

    /// Whether messages of the call may come after its response: progress is of no use then.
    pub(in crate::upstream) fn may_come_late(&self) -> bool {
        self.session == SessionUse::Own
    }

    /// Holds the response to the call back until late messages have come.
    pub(in crate::upstream) fn hold_answer(&mut self, answer: Event) {
        self.answer = Some(answer);
    }

    /// Whether the response is held back.
    pub(in crate::upstream) fn has_answer(&self) -> bool {
        self.answer.is_some()
    }

    /// Returns messages that come after the response, and then the response. Cancel safe.
    pub(in crate::upstream) async fn final_message(&mut self) -> FinalMessage {
        match tokio::time::timeout(LATE_MESSAGE_WINDOW, self.next()).await {
            Ok(message) => FinalMessage::Late(message),
            Err(_) => FinalMessage::Answer(self.answer.take()),
        }
    }
}

/// The last messages of a call.
pub(in crate::upstream) enum FinalMessage {
    /// A message that came after the response.
    Late(Bytes),
    /// The response.
    Answer(Option<Event>),
}

/// Reads the server stream of a session until it is dropped.
pub(in crate::upstream) struct ServerStream(AbortHandle);

impl Drop for ServerStream {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ServerStream {
    /// Opens the stream of a session whose messages are requests, and waits for it, for a while.
    pub(super) async fn open(
        http_pool: &Rc<HttpPool>,
        (session, session_use): (&Rc<UpstreamSession>, SessionUse),
        subscribers: &MessageSubscribers,
        timeout: Duration,
    ) -> Self {
        let (opened, is_opened) = oneshot::channel();
        let reader = StreamReader {
            http_pool: Rc::clone(http_pool),
            session: Rc::clone(session),
            session_use,
            timeout,
            subscribers: subscribers.clone(),
        };
        let task = tokio::task::spawn_local(reader.run(opened)).abort_handle();
        // A stream that is not open by then opens later, or not at all.
        let _: Result<_, _> = tokio::time::timeout(OPEN_TIMEOUT, is_opened).await;
        Self(task)
    }
}

/// How a stream ended.
enum StreamEnd {
    /// The upstream closed it.
    Closed,
    /// The way to the upstream is about to end, and the next stream is opened on another.
    Retired,
}

/// Whether an upstream that refuses its stream with this status may give it later. The SDKs say 409 as long as they have not
/// seen that the stream before was cut, others 400; where it never gave one, that is what it says of a stream that it does not have.
fn may_come_later(status: StatusCode, was_given: bool) -> bool {
    let for_now = [StatusCode::CONFLICT, StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || for_now.contains(&status)
        || was_given && status == StatusCode::BAD_REQUEST
}

struct StreamReader {
    http_pool: Rc<HttpPool>,
    session: Rc<UpstreamSession>,
    session_use: SessionUse,
    /// The time within which the upstream takes a response.
    timeout: Duration,
    subscribers: MessageSubscribers,
}

impl StreamReader {
    async fn run(self, opened: oneshot::Sender<()>) {
        let mut opened = Some(opened);
        let mut pause = FIRST_PAUSE;
        let mut was_given = false;
        loop {
            let began = Instant::now();
            let headers = self.headers();
            let opened_stream =
                self.http_pool.send(&Verb::GET, headers, Bytes::new(), Retry::Safe, MAX_SILENCE).await;
            match opened_stream {
                Ok(mut response) if response.status == StatusCode::OK => {
                    // The upstream has no such stream.
                    if !matches!(response.media().await, Ok(Some(Media::Events))) {
                        return;
                    }
                    drop(opened.take());
                    was_given = true;
                    match self.read(response).await {
                        Ok(StreamEnd::Retired) => continue,
                        Ok(StreamEnd::Closed) => {}
                        Err(fault) => tracing::debug!(%fault, "the server stream of a session ended"),
                    }
                }
                Ok(response) if may_come_later(response.status, was_given) => {}
                // The session has ended, or the upstream has no such stream.
                Ok(_) => return,
                Err(fault) => tracing::debug!(%fault, "cannot open the server stream of a session"),
            }
            // One that lasted was of use; servers that end each at once, or are out of order, are asked ever less.
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn read(&self, response: HttpResponse) -> Result<StreamEnd, Fault> {
        let retired = response.retired();
        let mut leaving = pin!(async {
            retired.await;
            // No call misses a message.
            while self.subscribers.are_waiting() {
                tokio::time::sleep(LEAVE_EVERY).await;
            }
        });
        let mut events = EventStream::new(response, MAX_EVENT);
        loop {
            let message = tokio::select! {
                message = events.next_message() => message?,
                () = &mut leaving => return Ok(StreamEnd::Retired),
            };
            let Some(message) = message else { return Ok(StreamEnd::Closed) };
            if let Some(reply) = self.handle(message) {
                self.reply(reply).await?;
            }
        }
    }

    /// Hands a message to the call that it belongs to. Returns the response of the edge, where the edge responds.
    fn handle(&self, message: Bytes) -> Option<Bytes> {
        let envelope = Envelope::parse(&message).ok()?;
        let method = envelope.method.as_deref().and_then(Method::parse);
        let send = |message: Bytes| self.session_use == SessionUse::Own && self.subscribers.send(message);
        match (envelope.kind(), method, envelope.id) {
            (Kind::Request, _, Some(id)) if id.len() > MAX_KEPT => responses::refuse_long_id(id),
            (Kind::Request, Some(Method::Ping), Some(id)) => Some(responses::pong(id)),
            (Kind::Request, _, Some(id)) if !send(message.clone()) => {
                let text = "the client cannot be asked while no call is in flight";
                Some(codes::render(Some(id), codes::METHOD_NOT_FOUND, text, None))
            }
            (Kind::Notification, Some(Method::Message), _) if !send(message.clone()) => {
                tracing::debug!("dropped a log message without a client");
                None
            }
            (Kind::Notification, Some(Method::Progress), _) => {
                let [token] = json::members(envelope.params?, ["progressToken"]).ok()?;
                match self.subscribers.send_progress(token?, message.clone()) {
                    true => self.http_pool.quirks.note(Quirk::ProgressAside, ""),
                    false => tracing::debug!("dropped progress of a call that has ended"),
                }
                None
            }
            _ => None,
        }
    }

    fn headers(&self) -> HeaderMap {
        self.session.headers().cloned().unwrap_or_default()
    }

    /// Responds to a request of the upstream, which is read on when there is room for the response.
    async fn reply(&self, body: Bytes) -> Result<(), Fault> {
        let sender = || Ok(post_sender(Rc::clone(&self.http_pool), self.headers(), self.timeout));
        self.session.replies.send(body, Instant::now() + self.timeout, sender).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_asked_for_again_where_the_refusal_may_pass() {
        let later = [408, 409, 429, 500, 502, 503];
        let never = [401, 404, 405, 406, 501];
        let status = |status: u16| StatusCode::from_u16(status).unwrap();
        for was_given in [false, true] {
            assert!(later.into_iter().all(|refusal| may_come_later(status(refusal), was_given)));
            assert!(!never.into_iter().any(|refusal| may_come_later(status(refusal), was_given)));
        }
        assert!(may_come_later(status(400), true) && !may_come_later(status(400), false));
    }
}
