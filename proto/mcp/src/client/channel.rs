//! A connection that is the session: messages both ways, answers found by their ids. HTTP+SSE and WebSocket are such.
//!
//! It must not know what is asked. A reader that does not keep up is removed, so that the others go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::error::ClientError;
use super::http::{Events, HttpClient, ResponseBody};
use super::notice::{Unread, UnreadNotices};
use super::websocket::{self, Frames, Socket};
use crate::endpoint;
use crate::error::{METHOD_NOT_FOUND, render};
use crate::header::{ACCEPT_BOTH, EVENT_STREAM, JSON};
use crate::message::{Envelope, Kind, split_batch};
use crate::method::Method;
use crate::quirk::Quirk;
use ::http::{HeaderMap, HeaderValue, Method as Verb, header};

/// Messages that may wait for one reader that wants notifications. Others wait for one message, their response.
const MAX_QUEUED: usize = 1_024;

/// A connection that is the session.
pub(super) struct Channel {
    outgoing: Outgoing,
    dispatcher: Arc<Dispatcher>,
    reader: AbortHandle,
    quirks: Vec<Quirk>,
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
#[derive(Default)]
struct Dispatcher(Mutex<Pending>);

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
    messages: mpsc::Sender<Bytes>,
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
    messages: mpsc::Receiver<Bytes>,
}

impl Channel {
    /// Opens a stream of events, and waits for its first, which names the URL that messages are posted to.
    pub(super) async fn over_sse(http: &Arc<HttpClient>) -> Result<Self, ClientError> {
        let limit = http.endpoint.timeout;
        let opened = async {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(EVENT_STREAM));
            let response = http.send(Verb::GET, headers, Bytes::new()).await?;
            let ResponseBody::Events(mut events) = http.read(response).await? else {
                return Err(ClientError::Protocol("GET did not return a stream".to_owned()));
            };
            let first = events.next(None).await?;
            let event = first.filter(|event| event.event.as_deref() == Some(endpoint::EVENT));
            let event = event.ok_or_else(|| {
                ClientError::Protocol("the stream does not begin with the event `endpoint`".to_owned())
            })?;
            let url = endpoint::resolve(&http.endpoint.url, &event.data)
                .map_err(|error| ClientError::Protocol(error.to_string()))?;
            Ok(Self::start(Outgoing::Post(Arc::new(http.at(url))), Incoming::Events(events), Vec::new()))
        };
        timeout(limit, opened).await.unwrap_or(Err(ClientError::Timeout(limit)))
    }

    /// Opens a WebSocket.
    pub(super) async fn over_websocket(http: &HttpClient) -> Result<Self, ClientError> {
        let limit = http.endpoint.timeout;
        let opened = timeout(limit, websocket::open(http)).await;
        let (socket, frames) = opened.unwrap_or(Err(ClientError::Timeout(limit)))?;
        let quirks = if frames.has_subprotocol { Vec::new() } else { vec![Quirk::NoSubprotocol] };
        Ok(Self::start(Outgoing::Frame(socket), Incoming::Frames(frames), quirks))
    }

    fn start(outgoing: Outgoing, incoming: Incoming, quirks: Vec<Quirk>) -> Self {
        let dispatcher = Arc::new(Dispatcher::default());
        let reader = tokio::spawn(read(incoming, Arc::clone(&dispatcher), outgoing.clone())).abort_handle();
        Self { outgoing, dispatcher, reader, quirks }
    }

    /// Its quirks.
    pub(super) fn quirks(&self) -> Vec<Quirk> {
        self.quirks.clone()
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

    pub(super) async fn send(&self, message: Bytes) -> Result<(), ClientError> {
        self.outgoing.send(message).await
    }

    /// Ends the session; a failure is only logged.
    pub(super) async fn close(&self) {
        if let Outgoing::Frame(socket) = &self.outgoing {
            socket.close().await;
        }
        self.reader.abort();
        self.dispatcher.close(ClientError::SessionLost);
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Outgoing {
    async fn send(&self, message: Bytes) -> Result<(), ClientError> {
        match self {
            Self::Post(http) => {
                let mut headers = HeaderMap::new();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
                headers.insert(header::ACCEPT, HeaderValue::from_static(ACCEPT_BOTH));
                http.expect_success(http.send(Verb::POST, headers, message).await?).await
            }
            Self::Frame(socket) => socket.send(message).await,
        }
    }
}

impl Incoming {
    /// The next message; an error at the end.
    async fn next(&mut self) -> Result<Bytes, ClientError> {
        match self {
            Self::Frames(frames) => frames.next().await,
            Self::Events(events) => loop {
                let event = events.next(None).await?;
                let event = event.ok_or_else(|| ClientError::Broken("the stream ended".to_owned()))?;
                if !event.data.is_empty() && event.event.as_deref().is_none_or(|kind| kind == b"message") {
                    return Ok(event.data);
                }
            },
        }
    }
}

/// Dispatches every message until the connection ends.
async fn read(mut incoming: Incoming, dispatcher: Arc<Dispatcher>, outgoing: Outgoing) {
    let ended = loop {
        let dispatched = match incoming.next().await {
            Ok(message) => dispatcher.dispatch(&message),
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
        access(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Dispatches a message or a batch; returns the replies to send.
    fn dispatch(&self, source: &Bytes) -> Result<Vec<Bytes>, ClientError> {
        let malformed = |e| ClientError::Protocol(format!("a message: {e}"));
        let parts = match source.trim_ascii_start().starts_with(b"[") {
            true => split_batch(source).map_err(malformed)?,
            false => std::iter::once(0..source.len()).collect(),
        };
        let mut replies = Vec::new();
        for part in parts {
            let message = source.slice(part);
            let envelope = Envelope::parse(&message).map_err(malformed)?;
            if envelope.kind() == Kind::Request {
                replies.extend(reply(&envelope));
            } else {
                self.with(|pending| pending.dispatch(&envelope, &message));
            }
        }
        Ok(replies)
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
    fn dispatch(&mut self, envelope: &Envelope<'_>, message: &Bytes) {
        let deliver = |request: &PendingRequest| request.messages.try_send(message.clone()).is_ok();
        match (envelope.kind(), envelope.id) {
            (Kind::Response, Some(id)) if self.requests.contains_key(id) => {
                if let Some(request) = self.requests.remove(id) {
                    deliver(&request);
                }
                return;
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
    /// The next message, `None` when there will be none.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
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
