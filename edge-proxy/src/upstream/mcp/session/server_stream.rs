//! The stream of a legacy session on which the upstream sends messages outside of responses: log messages and requests.
//!
//! Its messages do not say which call they belong to, so it is read only where a session belongs to one conversation.
//! It must not know how they reach the client.

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

use crate::error::Fault;
use crate::upstream::connect::{HttpPool, Retry};
use crate::upstream::connect::{HttpResponse, MediaType};

/// Largest message.
const MAX_EVENT: usize = 256 << 10;
/// Messages that wait for one client; further ones are dropped or refused.
const MAX_QUEUED: usize = 256;
/// Longest silence of the stream.
const MAX_SILENCE: Duration = Duration::from_secs(24 * 3_600);
const RECONNECT_DELAY: Duration = Duration::from_secs(1);
/// Longest wait of a call for the stream to open.
const OPEN_TIMEOUT: Duration = Duration::from_millis(500);
/// Messages and the response to a call come on two streams: how much later the former may come.
const LATE_MESSAGE_WINDOW: Duration = Duration::from_millis(25);

/// The calls of one conversation in flight. The youngest receives the messages.
#[derive(Clone, Default)]
pub(in crate::upstream) struct MessageSubscribers(Rc<RefCell<Vec<mpsc::Sender<Bytes>>>>);

/// The messages on the server stream during a call.
pub(in crate::upstream) struct ServerMessages {
    messages: mpsc::Receiver<Bytes>,
    answer: Option<Event>,
}

impl MessageSubscribers {
    /// Subscribes a call to the messages from now on.
    pub(in crate::upstream) fn subscribe(&self) -> ServerMessages {
        let (sender, messages) = mpsc::channel(MAX_QUEUED);
        self.0.borrow_mut().push(sender);
        ServerMessages { messages, answer: None }
    }

    /// Sends a message to the youngest call. Returns whether there was one.
    fn send(&self, message: Bytes) -> bool {
        let mut subscribers = self.0.borrow_mut();
        subscribers.retain(|subscriber| !subscriber.is_closed());
        subscribers.last().is_some_and(|youngest| youngest.try_send(message).is_ok())
    }
}

impl ServerMessages {
    /// Returns the next message. Cancel safe.
    pub(in crate::upstream) async fn next(&mut self) -> Bytes {
        match self.messages.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
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
    /// Opens the stream of the session whose requests carry `headers`, and waits for it, for a while.
    pub(in crate::upstream) async fn open(
        http_pool: &Rc<HttpPool>,
        headers: &HeaderMap,
        subscribers: &MessageSubscribers,
    ) -> Self {
        let (opened, is_opened) = oneshot::channel();
        let reader = StreamReader {
            http_pool: Rc::clone(http_pool),
            headers: headers.clone(),
            subscribers: subscribers.clone(),
        };
        let task = tokio::task::spawn_local(reader.run(opened)).abort_handle();
        // A stream that is not open by then opens later, or not at all.
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
            let opened_stream =
                self.http_pool.send(&Verb::GET, headers, Bytes::new(), Retry::Safe, MAX_SILENCE).await;
            match opened_stream {
                Ok(response)
                    if response.status == StatusCode::OK && response.media_type() == MediaType::Events =>
                {
                    drop(opened.take());
                    if let Err(fault) = self.read(response).await {
                        tracing::debug!(%fault, "the server stream of a session ended");
                    }
                }
                Ok(response) if response.status.is_server_error() => {}
                // The session has ended, or the upstream has no such stream.
                Ok(_) => return,
                Err(fault) => tracing::debug!(%fault, "cannot open the server stream of a session"),
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
                let text = "the client cannot be asked while no call is in flight";
                let code = codes::METHOD_NOT_FOUND;
                self.reply(id, &format!(r#""error":{{"code":{code},"message":"{text}"}}"#));
            }
            (Kind::Notification, Some(Method::Message), _) if !self.subscribers.send(message.clone()) => {
                tracing::debug!("dropped a log message without a client");
            }
            _ => {}
        }
    }

    fn reply(&self, id: &str, answer: &str) {
        let body = Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},{answer}}}"#));
        let (http_pool, headers) = (Rc::clone(&self.http_pool), self.headers.clone());
        tokio::task::spawn_local(async move {
            if let Err(fault) =
                http_pool.send(&Verb::POST, headers, body, Retry::IfUnsent, OPEN_TIMEOUT).await
            {
                tracing::debug!(%fault, "cannot deliver a response to an upstream");
            }
        });
    }
}
