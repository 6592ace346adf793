//! A connection that is the session: messages both ways, answers found by their ids. HTTP+SSE and WebSocket are such.
//!
//! It must not know what is asked. A reader that does not keep up is removed, so that the others go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::answer::parsed;
use super::body::Events;
use super::error::ClientError;
use super::http::{HttpClient, Outbound, ResponseBody};
use super::notice::{Unread, UnreadNotices};
use super::rpc::outbound;
use super::websocket::{self, Frames, Socket};
use crate::border::body::{self, Media};
use crate::border::cookies::cookies;
use crate::border::{Skipped, Take, events, ids};
use crate::endpoint;
use crate::error::{METHOD_NOT_FOUND, render};
use crate::header::{ACCEPT_BOTH, EVENT_STREAM, JSON};
use crate::message::{Envelope, Kind};
use crate::method::Method;
use crate::quirk::Quirk;
use ::http::{HeaderMap, HeaderValue, Method as Verb, header};

/// Messages that may wait for one reader that wants notifications. Others wait for one message, their response.
const MAX_QUEUED: usize = 1_024;

/// Events that may come before the one that names the endpoint.
const MAX_EVENTS_BEFORE_ENDPOINT: usize = 64;

/// A connection that is the session.
pub(super) struct Channel {
    outgoing: Outgoing,
    dispatcher: Arc<Dispatcher>,
    reader: AbortHandle,
}

/// The sending half.
#[derive(Clone)]
enum Outgoing {
    /// Each message is posted to the URL that the server named.
    Post(Arc<HttpClient>),
    /// Each message is a frame.
    Frame(Socket),
}

/// The receiving half.
enum Incoming {
    Events(Box<Events>),
    Frames(Frames),
}

/// Dispatches messages to the requests that wait for them.
struct Dispatcher {
    http: Arc<HttpClient>,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    /// By the raw id of the request.
    requests: HashMap<String, PendingRequest>,
    /// Hears of messages that answer no request.
    listener: Option<Listener>,
    /// The error that ended the connection.
    closed: Option<ClientError>,
}

/// One request that waits.
struct PendingRequest {
    messages: mpsc::Sender<Result<Bytes, ClientError>>,
    wants_notifications: bool,
}

/// What the listener has not read, and the signal that there is more.
struct Listener {
    unread: UnreadNotices,
    heard: Arc<Notify>,
}

/// The changes that a server notifies, until it is dropped.
pub(super) struct Listening {
    dispatcher: Arc<Dispatcher>,
    heard: Arc<Notify>,
}

/// The messages for one request, until it is dropped.
pub(super) struct Responses {
    dispatcher: Arc<Dispatcher>,
    id: String,
    messages: mpsc::Receiver<Result<Bytes, ClientError>>,
}

impl Channel {
    /// Opens a stream of events, and waits for the one that names the URL that messages are posted to.
    pub(super) async fn over_sse(http: &Arc<HttpClient>) -> Result<Self, ClientError> {
        let limit = http.endpoint.timeout;
        let opened = async {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(EVENT_STREAM));
            let (response, opened_at) = http.send_to(outbound(Verb::GET, headers, Bytes::new())).await?;
            let status = response.status().as_u16();
            let cookies = cookies(response.headers(), http.endpoint.headers.get(header::COOKIE));
            let ResponseBody::Events(mut events) = http.read(response).await? else {
                return Err(ClientError::Http { status, excerpt: "GET did not return a stream".to_owned() });
            };
            let target = named_endpoint(http, &mut events).await?;
            let url = endpoint::resolve(&opened_at, &target)
                .map_err(|error| ClientError::Protocol(error.to_string()))?;
            let mut posting = http.at(url);
            if let Some(cookies) = cookies {
                http.quirks.note(Quirk::AffinityCookies, String::new);
                posting.endpoint.headers.insert(header::COOKIE, cookies);
            }
            let post = Outgoing::Post(Arc::new(posting));
            Ok(Self::start(Arc::clone(http), post, Incoming::Events(events)))
        };
        timeout(limit, opened).await.unwrap_or(Err(ClientError::Timeout(limit)))
    }

    /// Opens a WebSocket.
    pub(super) async fn over_websocket(http: &Arc<HttpClient>) -> Result<Self, ClientError> {
        let limit = http.endpoint.timeout;
        let opened = timeout(limit, websocket::open(http)).await;
        let (socket, frames) = opened.unwrap_or(Err(ClientError::Timeout(limit)))?;
        if !frames.has_subprotocol {
            http.quirks.note(Quirk::NoSubprotocol, String::new);
        }
        Ok(Self::start(Arc::clone(http), Outgoing::Frame(socket), Incoming::Frames(frames)))
    }

    fn start(http: Arc<HttpClient>, outgoing: Outgoing, incoming: Incoming) -> Self {
        let dispatcher = Arc::new(Dispatcher { http, pending: Mutex::default() });
        let reader = tokio::spawn(read(incoming, Arc::clone(&dispatcher), outgoing.clone())).abort_handle();
        Self { outgoing, dispatcher, reader }
    }

    /// Registers the request of this raw id, which is about to be sent; returns its response, after the notifications
    /// until then where they are wanted.
    pub(super) fn register(&self, id: &str, wants_notifications: bool) -> Result<Responses, ClientError> {
        let (sender, messages) = mpsc::channel(if wants_notifications { MAX_QUEUED } else { 1 });
        self.dispatcher.with(|pending| match &pending.closed {
            Some(closed) => Err(closed.clone()),
            None => {
                let request = PendingRequest { messages: sender, wants_notifications };
                pending.requests.insert(id.to_owned(), request);
                Ok(())
            }
        })?;
        Ok(Responses { dispatcher: Arc::clone(&self.dispatcher), id: id.to_owned(), messages })
    }

    /// Listens to changes, and to the response to the request of this raw id, which is not registered.
    pub(super) fn listen(&self, request: Option<&str>) -> Result<Listening, ClientError> {
        let heard = Arc::new(Notify::new());
        self.dispatcher.with(|pending| match (&pending.closed, &pending.listener) {
            (Some(closed), _) => Err(closed.clone()),
            (None, Some(_)) => Err(ClientError::Busy),
            (None, None) => {
                let unread = UnreadNotices::new(request);
                pending.listener = Some(Listener { unread, heard: Arc::clone(&heard) });
                Ok(())
            }
        })?;
        Ok(Listening { dispatcher: Arc::clone(&self.dispatcher), heard })
    }

    /// The error that ended the connection.
    pub(super) fn close_reason(&self) -> ClientError {
        let closed = self.dispatcher.with(|pending| pending.closed.clone());
        closed
            .unwrap_or_else(|| ClientError::Broken("messages arrived faster than they were read".to_owned()))
    }

    /// Sends a message. A server of HTTP+SSE may answer in the response to that, and not on the stream.
    pub(super) async fn send(&self, message: Bytes) -> Result<(), ClientError> {
        if let Some(answer) = self.outgoing.send(message).await? {
            self.dispatcher.answer(&answer);
        }
        Ok(())
    }

    /// Ends the session; a failure is only logged.
    pub(super) async fn close(&self) {
        if let Outgoing::Frame(socket) = &self.outgoing {
            socket.close().await;
        }
        self.reader.abort();
        self.dispatcher.close(ClientError::SESSION_LOST);
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Outgoing {
    /// Sends a message. Returns what JSON comes in response to that.
    async fn send(&self, message: Bytes) -> Result<Option<Bytes>, ClientError> {
        let http = match self {
            Self::Post(http) => http,
            Self::Frame(socket) => return socket.send(message).await.map(|()| None),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert(header::ACCEPT, HeaderValue::from_static(ACCEPT_BOTH));
        let request = Outbound { may_repeat: false, ..outbound(Verb::POST, headers, message) };
        let response = http.send(request).await?;
        if !is_json(&response) {
            return http.expect_success(response).await.map(|()| None);
        }
        match http.read(response).await {
            Ok(ResponseBody::Json(body)) => Ok(Some(body)),
            Ok(_) => Ok(None),
            // It was accepted. Whatever is wrong with a body that nobody needs does not matter.
            Err(_) => Ok(None),
        }
    }
}

impl Incoming {
    /// The next message; an error at the end.
    async fn next(&mut self, http: &HttpClient) -> Result<Bytes, ClientError> {
        match self {
            Self::Frames(frames) => frames.next(http).await,
            Self::Events(events) => loop {
                let event = events.next(None).await?;
                let event = event.ok_or_else(|| ClientError::Broken("the stream ended".to_owned()))?;
                match events::take(&event) {
                    Take::Message(message) => return Ok(message.clone()),
                    Take::Nothing => {}
                    Take::Odd(quirk) => http.note_event(quirk, &event),
                }
            },
        }
    }
}

/// The event that names the URL that messages are posted to. Some servers send others before it.
async fn named_endpoint(http: &HttpClient, events: &mut Events) -> Result<Bytes, ClientError> {
    for _ in 0..MAX_EVENTS_BEFORE_ENDPOINT {
        let Some(event) = events.next(None).await? else { break };
        if event.event.as_deref() == Some(endpoint::EVENT) {
            return Ok(event.data);
        }
        http.note_event(Quirk::ForeignEvents, &event);
    }
    Err(ClientError::Protocol("the stream does not begin with the event `endpoint`".to_owned()))
}

/// Whether a response to a message has a body that may be an answer.
fn is_json(response: &reqwest::Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    response.status().is_success() && body::label(content_type) == Some(Media::Json)
}

/// Dispatches every message until the connection ends.
async fn read(mut incoming: Incoming, dispatcher: Arc<Dispatcher>, outgoing: Outgoing) {
    let mut skipped = Skipped::default();
    let ended = loop {
        let dispatched = match incoming.next(&dispatcher.http).await {
            Ok(message) => dispatcher.dispatch(&message, &mut skipped),
            Err(error) => break error,
        };
        match dispatched {
            Ok(replies) => {
                for reply in replies {
                    if let Err(error) = outgoing.send(reply).await {
                        tracing::debug!(%error, "cannot respond to a server request");
                    }
                }
            }
            Err(error) => break error,
        }
    };
    dispatcher.close(ended);
}

impl Dispatcher {
    fn with<T>(&self, access: impl FnOnce(&mut Pending) -> T) -> T {
        access(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Dispatches a message or a batch; returns the replies to send. What cannot be read ends the request that it names,
    /// or is passed over; too much of that is an error.
    fn dispatch(
        &self,
        source: &Bytes,
        skipped: &mut Skipped<ClientError>,
    ) -> Result<Vec<Bytes>, ClientError> {
        let mut replies = Vec::new();
        for part in self.http.parts(source) {
            let message = match self.http.readable(&part, None) {
                Ok(message) => message,
                Err(unreadable) => {
                    let error = self.http.unreadable(&part, &unreadable);
                    self.http
                        .quirks
                        .note(Quirk::UnreadableMessages, || self.http.quoted(&part, unreadable.at));
                    if !self.with(|pending| pending.end_claimed(&part, &error)) {
                        skipped.add(unreadable.length, || error)?;
                    }
                    continue;
                }
            };
            skipped.clear();
            let envelope = parsed(&message)?;
            if envelope.kind() == Kind::Request {
                replies.extend(reply(&envelope));
            } else if let Some(respelt) = self.with(|pending| pending.dispatch(&envelope, &message)) {
                self.http.quirks.note(Quirk::IdsRespelt, || self.http.sanitize(&respelt));
            }
        }
        Ok(replies)
    }

    /// Dispatches what a server sent in response to a message, if that is the response to a request.
    fn answer(&self, body: &Bytes) {
        for part in self.http.parts(body) {
            let Ok(message) = self.http.readable(&part, None) else { continue };
            let Ok(envelope) = Envelope::parse(&message) else { continue };
            let Some(id) = envelope.id.filter(|_| envelope.kind() == Kind::Response) else { continue };
            if self.with(|pending| pending.waiting(id).is_some()) {
                self.http.quirks.note(Quirk::AnswersInPost, String::new);
                self.with(|pending| pending.dispatch(&envelope, &message));
            }
        }
    }

    fn close(&self, reason: ClientError) {
        self.with(|pending| {
            pending.requests.clear();
            pending.closed.get_or_insert(reason);
            if let Some(listener) = pending.listener.take() {
                listener.heard.notify_one();
            }
        });
    }
}

impl Pending {
    /// The request that a raw id of a response means, as it was sent.
    fn waiting(&self, id: &str) -> Option<String> {
        let meant = || self.requests.keys().find(|sent| ids::same(id, sent).is_some());
        self.requests.get_key_value(id).map(|(sent, _)| sent).or_else(meant).cloned()
    }

    /// Ends the request whose response a text plainly is that cannot be read. False: there is none.
    fn end_claimed(&mut self, source: &[u8], error: &ClientError) -> bool {
        let claimed = ids::claimed(source).and_then(|number| self.requests.remove(&number.to_string()));
        let Some(request) = claimed else { return false };
        // It has room for one message, or is not read: then it ends all the same.
        let _ended: Result<(), _> = request.messages.try_send(Err(error.clone()));
        true
    }

    /// Delivers a notification or response. Returns its id, if it is spelled in another way than it was sent.
    fn dispatch(&mut self, envelope: &Envelope<'_>, message: &Bytes) -> Option<String> {
        let deliver = |request: &PendingRequest| request.messages.try_send(Ok(message.clone())).is_ok();
        match (envelope.kind(), envelope.id) {
            (Kind::Response, Some(id)) if let Some(sent) = self.waiting(id) => {
                if let Some(request) = self.requests.remove(&sent) {
                    deliver(&request);
                }
                return (sent != id).then(|| id.to_owned());
            }
            // A notification is about any request.
            (Kind::Notification, _) => {
                self.requests.retain(|_, request| !request.wants_notifications || deliver(request));
            }
            // An error without an id is about the only request there is.
            (Kind::Response, None) => self.requests.retain(|_, request| deliver(request)),
            _ => {}
        }
        if let Some(listener) = &mut self.listener {
            listener.unread.hear(envelope, message);
            listener.heard.notify_one();
        }
        None
    }
}

impl Listening {
    /// Reads what is next, `None` when there will be nothing more.
    pub(super) async fn next(&mut self) -> Option<Unread> {
        loop {
            let next = self.dispatcher.with(|pending| match &mut pending.listener {
                None => Err(()),
                Some(listener) => Ok(listener.unread.take()),
            });
            match next {
                Err(()) => return None,
                Ok(Some(unread)) => return Some(unread),
                Ok(None) => self.heard.notified().await,
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.dispatcher.with(|pending| pending.listener = None);
    }
}

impl Responses {
    /// The next message, or why the response cannot be read; `None` when there will be none.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, ClientError>> {
        self.messages.recv().await
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.dispatcher.with(|pending| pending.requests.remove(&self.id));
    }
}

/// Replies to a server's request: a ping is answered, everything else refused.
pub(super) fn reply(request: &Envelope<'_>) -> Option<Bytes> {
    let (id, method) = (request.id?, request.method.as_deref()?);
    Some(if method == Method::Ping.as_str() {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#).into()
    } else {
        render(Some(id), METHOD_NOT_FOUND, "this client does not support this request", None)
    })
}
