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

use super::http_pool::{HttpPool, Retry};
use super::http_response::{HttpResponse, MediaType};
use crate::error::Fault;

/// Largest message.
const MAX_EVENT: usize = 256 << 10;
/// Messages that wait for one client to read; further ones are dropped or refused.
const MAX_WAITING: usize = 256;
/// A stream may be silent for as long as there is nothing to say.
const SILENCE: Duration = Duration::from_secs(24 * 3_600);
const PAUSE: Duration = Duration::from_secs(1);
/// How long a call waits at most for its session to be heard.
const PATIENCE: Duration = Duration::from_millis(500);
/// What is said aside and a call's answer come on two streams: how long one may be late behind the other.
const LATE: Duration = Duration::from_millis(25);

/// The calls of one conversation that are being made. The youngest is told what is said meanwhile.
#[derive(Clone, Default)]
pub(super) struct Listeners(Rc<RefCell<Vec<mpsc::Sender<Bytes>>>>);

/// What is said while a call is made.
pub(super) struct Aside {
    messages: mpsc::Receiver<Bytes>,
    answer: Option<Event>,
}

impl Listeners {
    /// What is said from now on, for one call.
    pub(super) fn listen(&self) -> Aside {
        let (sender, messages) = mpsc::channel(MAX_WAITING);
        self.0.borrow_mut().push(sender);
        Aside { messages, answer: None }
    }

    /// Whether a call was told.
    fn tell(&self, message: Bytes) -> bool {
        let mut listeners = self.0.borrow_mut();
        listeners.retain(|listener| !listener.is_closed());
        listeners.last().is_some_and(|youngest| youngest.try_send(message).is_ok())
    }
}

impl Aside {
    /// The next message. The future may be dropped and made anew.
    pub(super) async fn next(&mut self) -> Bytes {
        match self.messages.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }

    /// Keeps the answer to the call until nothing is said any more.
    pub(super) fn keep(&mut self, answer: Event) {
        self.answer = Some(answer);
    }

    /// Whether the answer is kept.
    pub(super) fn is_ending(&self) -> bool {
        self.answer.is_some()
    }

    /// What was said before the answer and comes after it, and then the answer. The future may be dropped and made anew.
    pub(super) async fn last(&mut self) -> Last {
        match tokio::time::timeout(LATE, self.next()).await {
            Ok(late) => Last::Said(late),
            Err(_) => Last::Answer(self.answer.take()),
        }
    }
}

/// What comes at the end of a call.
pub(super) enum Last {
    /// A message that is late.
    Said(Bytes),
    /// The answer.
    Answer(Option<Event>),
}

/// Hears a session until it is dropped.
pub(super) struct Hearing(AbortHandle);

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Hearing {
    /// Begins to hear the session whose requests carry `headers`, and waits until that is so, or for too long.
    pub(super) async fn begin(http_pool: &Rc<HttpPool>, headers: &HeaderMap, listeners: &Listeners) -> Self {
        let (live, is_live) = oneshot::channel();
        let ear =
            Ear { http_pool: Rc::clone(http_pool), headers: headers.clone(), listeners: listeners.clone() };
        let task = tokio::task::spawn_local(ear.run(live)).abort_handle();
        // What is not heard by then is heard later, or not at all.
        let _: Result<_, _> = tokio::time::timeout(PATIENCE, is_live).await;
        Self(task)
    }
}

struct Ear {
    http_pool: Rc<HttpPool>,
    headers: HeaderMap,
    listeners: Listeners,
}

impl Ear {
    async fn run(self, live: oneshot::Sender<()>) {
        let mut live = Some(live);
        loop {
            let headers = self.headers.clone();
            let stream = self.http_pool.send(&Verb::GET, headers, Bytes::new(), Retry::Safe, SILENCE).await;
            match stream {
                Ok(response)
                    if response.status == StatusCode::OK && response.media_type() == MediaType::Events =>
                {
                    drop(live.take());
                    if let Err(fault) = self.hear(response).await {
                        tracing::debug!(%fault, "a session is no longer heard");
                    }
                }
                Ok(response) if response.status.is_server_error() => {}
                // The session has ended, or the upstream has nothing to say aside.
                Ok(_) => return,
                Err(fault) => tracing::debug!(%fault, "a session is not heard"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn hear(&self, mut response: HttpResponse) -> Result<(), Fault> {
        let mut decoder = Decoder::new(MAX_EVENT);
        while let Some(chunk) = response.chunk().await? {
            decoder.push(chunk);
            while let Some(event) = decoder.next().map_err(|_| Fault::TooLarge)? {
                self.take(event.data);
            }
        }
        Ok(())
    }

    fn take(&self, message: Bytes) {
        let Ok(envelope) = Envelope::parse(&message) else { return };
        let method = envelope.method.as_deref().and_then(Method::parse);
        match (envelope.kind(), method, envelope.id) {
            (Kind::Request, Some(Method::Ping), Some(id)) => self.say(id, r#""result":{}"#),
            (Kind::Request, _, Some(id)) if !self.listeners.tell(message.clone()) => {
                let text = "nobody can be asked when no call is under way";
                let code = codes::METHOD_NOT_FOUND;
                self.say(id, &format!(r#""error":{{"code":{code},"message":"{text}"}}"#));
            }
            (Kind::Notification, Some(Method::Message), _) if !self.listeners.tell(message.clone()) => {
                tracing::debug!("a log message reached no client");
            }
            _ => {}
        }
    }

    fn say(&self, id: &str, answer: &str) {
        let body = Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},{answer}}}"#));
        let (http_pool, headers) = (Rc::clone(&self.http_pool), self.headers.clone());
        tokio::task::spawn_local(async move {
            if let Err(fault) = http_pool.send(&Verb::POST, headers, body, Retry::IfUnsent, PATIENCE).await {
                tracing::debug!(%fault, "an upstream did not take an answer");
            }
        });
    }
}
