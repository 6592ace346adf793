//! What a legacy upstream says aside of its answers, on a session's own stream: most log there, and some ask there.
//!
//! Whose call it is about is not said, so it is only heard where a session belongs to one conversation. It must not know how
//! clients are told.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method as Verb, StatusCode};
use mcp::error as codes;
use mcp::message::{Envelope, Kind};
use mcp::method::Method;
use mcp::sse::{Decoder, Event};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::upstream::http_pool::{HttpPool, Retry};
use crate::upstream::http_response::{HttpResponse, MediaType};
use crate::error::Fault;

/// Largest message.
const MAX_EVENT: usize = 256 << 10;
/// Messages that wait for one client to read; further ones are dropped or refused.
const MAX_QUEUED: usize = 256;
/// A stream may be silent for as long as there is nothing to say.
const MAX_SILENCE: Duration = Duration::from_secs(24 * 3_600);
const RECONNECT_DELAY: Duration = Duration::from_secs(1);
/// How long a call waits at most for its session to be heard.
const OPEN_TIMEOUT: Duration = Duration::from_millis(500);
/// What is said aside and a call's answer come on two streams: how long one may be late behind the other.
const LATE_MESSAGE_WINDOW: Duration = Duration::from_millis(25);

/// The calls of one conversation that are being made. The youngest is told what is said meanwhile.
#[derive(Clone, Default)]
pub(in crate::upstream) struct MessageSubscribers(Rc<RefCell<Vec<mpsc::Sender<Bytes>>>>);

/// What is said while a call is made.
pub(in crate::upstream) struct ServerMessages {
    messages: mpsc::Receiver<Bytes>,
    answer: Option<Event>,
}

impl MessageSubscribers {
    /// What is said from now on, for one call.
    pub(in crate::upstream) fn subscribe(&self) -> ServerMessages {
        let (sender, messages) = mpsc::channel(MAX_QUEUED);
        self.0.borrow_mut().push(sender);
        ServerMessages { messages, answer: None }
    }

    /// Whether a call was told.
    fn send(&self, message: Bytes) -> bool {
        let mut subscribers = self.0.borrow_mut();
        subscribers.retain(|subscriber| !subscriber.is_closed());
        subscribers.last().is_some_and(|youngest| youngest.try_send(message).is_ok())
    }
}

impl ServerMessages {
    /// The next message. The future may be dropped and made anew.
    pub(in crate::upstream) async fn next(&mut self) -> Bytes {
        match self.messages.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }

    /// Keeps the answer to the call until nothing is said any more.
    pub(in crate::upstream) fn hold_answer(&mut self, answer: Event) {
        self.answer = Some(answer);
    }

    /// Whether the answer is kept.
    pub(in crate::upstream) fn has_answer(&self) -> bool {
        self.answer.is_some()
    }

    /// What was said before the answer and comes after it, and then the answer. The future may be dropped and made anew.
    pub(in crate::upstream) async fn final_message(&mut self) -> FinalMessage {
        match tokio::time::timeout(LATE_MESSAGE_WINDOW, self.next()).await {
            Ok(message) => FinalMessage::Late(message),
            Err(_) => FinalMessage::Answer(self.answer.take()),
        }
    }
}

/// What comes at the end of a call.
pub(in crate::upstream) enum FinalMessage {
    /// A message that is late.
    Late(Bytes),
    /// The answer.
    Answer(Option<Event>),
}

/// Hears a session until it is dropped.
pub(in crate::upstream) struct ServerStream(AbortHandle);

impl Drop for ServerStream {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ServerStream {
    /// Begins to hear the session whose requests carry `headers`, and waits until that is so, or for too long.
    pub(in crate::upstream) async fn open(http_pool: &Rc<HttpPool>, headers: &HeaderMap, subscribers: &MessageSubscribers) -> Self {
        let (opened, is_opened) = oneshot::channel();
        let reader =
            StreamReader { http_pool: Rc::clone(http_pool), headers: headers.clone(), subscribers: subscribers.clone() };
        let task = tokio::task::spawn_local(reader.run(opened)).abort_handle();
        // What is not heard by then is heard later, or not at all.
        let _: Result<_, _> = tokio::time::timeout(OPEN_TIMEOUT, is_opened).await;
        Self(task)
    }
}

struct StreamReader {
    http_pool: Rc<HttpPool>,
    headers: HeaderMap,
    subscribers: MessageSubscribers,
}

impl StreamReader {
    async fn run(self, opened: oneshot::Sender<()>) {
        let mut opened = Some(opened);
        loop {
            let headers = self.headers.clone();
            let opened_stream = self.http_pool.send(&Verb::GET, headers, Bytes::new(), Retry::Safe, MAX_SILENCE).await;
            match opened_stream {
                Ok(response)
                    if response.status == StatusCode::OK && response.media_type() == MediaType::Events =>
                {
                    drop(opened.take());
                    if let Err(fault) = self.read(response).await {
                        tracing::debug!(%fault, "a session is no longer heard");
                    }
                }
                Ok(response) if response.status.is_server_error() => {}
                // The session has ended, or the upstream has nothing to say aside.
                Ok(_) => return,
                Err(fault) => tracing::debug!(%fault, "a session is not heard"),
            }
            tokio::time::sleep(RECONNECT_DELAY).await;
        }
    }

    async fn read(&self, mut response: HttpResponse) -> Result<(), Fault> {
        let mut decoder = Decoder::new(MAX_EVENT);
        while let Some(chunk) = response.chunk().await? {
            decoder.push(chunk);
            while let Some(event) = decoder.next().map_err(|_| Fault::TooLarge)? {
                self.handle(event.data);
            }
        }
        Ok(())
    }

    fn handle(&self, message: Bytes) {
        let Ok(envelope) = Envelope::parse(&message) else { return };
        let method = envelope.method.as_deref().and_then(Method::parse);
        match (envelope.kind(), method, envelope.id) {
            (Kind::Request, Some(Method::Ping), Some(id)) => self.reply(id, r#""result":{}"#),
            (Kind::Request, _, Some(id)) if !self.subscribers.send(message.clone()) => {
                let text = "nobody can be asked when no call is under way";
                let code = codes::METHOD_NOT_FOUND;
                self.reply(id, &format!(r#""error":{{"code":{code},"message":"{text}"}}"#));
            }
            (Kind::Notification, Some(Method::Message), _) if !self.subscribers.send(message.clone()) => {
                tracing::debug!("a log message reached no client");
            }
            _ => {}
        }
    }

    fn reply(&self, id: &str, answer: &str) {
        let body = Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},{answer}}}"#));
        let (http_pool, headers) = (Rc::clone(&self.http_pool), self.headers.clone());
        tokio::task::spawn_local(async move {
            if let Err(fault) = http_pool.send(&Verb::POST, headers, body, Retry::IfUnsent, OPEN_TIMEOUT).await {
                tracing::debug!(%fault, "an upstream did not take an answer");
            }
        });
    }
}
