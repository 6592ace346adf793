//! Transports whose connection is the session: HTTP+SSE (2024-11-05) at `/sse`, WebSocket at `/ws`.
//!
//! A client that sends faster than it is served, or does not read, loses its connection and may reconnect.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use mcp::border::{Peer, ids, mend};
use mcp::error::{INVALID_PARAMS, INVALID_REQUEST, UNSUPPORTED_VERSION, render};
use mcp::message::{Envelope, EnvelopeError, Kind, split_batch};
use mcp::revision::Revision;
use mcp::sse::{self, Event};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bridge::errors::BridgeError;
use crate::bridge::expose::Shared;
use crate::bridge::expose::handshake::{Initialization, initialization};
use crate::bridge::expose::http::{MAX_BODY_BYTES, accepts};
use crate::bridge::expose::instances::Instance;
use crate::bridge::expose::multiplexer::ClientId;
use crate::bridge::expose::response;
use crate::bridge::expose::share::Source;
use crate::bridge::expose::supervised_child::{CallMessage, NotReady, SupervisedChild};

/// Maximum number of connections; one address has half of them when alone.
pub const MAX_CONNECTIONS: usize = 2_000;
/// Capacity of the queues of a connection in each direction, in messages.
const QUEUE: usize = 256;
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The inboxes of all connections, by connection id. `POST /message` finds the inbox of its stream here.
#[derive(Debug, Default)]
pub struct Inboxes(Mutex<HashMap<String, Inbox>>);

#[derive(Debug)]
struct Inbox {
    messages: mpsc::Sender<Bytes>,
    source: Source,
}

/// The registration of an inbox, until dropped.
struct Registration {
    shared: Arc<Shared>,
    id: String,
}

impl Inboxes {
    fn open(shared: &Arc<Shared>, messages: mpsc::Sender<Bytes>, source: Source) -> Option<Registration> {
        let mut inboxes = shared.inboxes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !source.has_room(MAX_CONNECTIONS, inboxes.values().map(|inbox| inbox.source)) {
            return None;
        }
        // Version 4: 122 bits of the operating system's randomness.
        let id = uuid::Uuid::new_v4().simple().to_string();
        inboxes.insert(id.clone(), Inbox { messages, source });
        Some(Registration { shared: shared.clone(), id })
    }

    fn find(&self, id: &str) -> Option<mpsc::Sender<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).map(|inbox| inbox.messages.clone())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.inboxes.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// The connection of one client.
struct Connection {
    instance: Arc<Instance>,
    out: mpsc::Sender<Bytes>,
    client: Option<(Arc<SupervisedChild>, ClientId)>,
    lost: CancellationToken,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some((child, client)) = &self.client {
            child.remove_client(*client);
        }
    }
}

/// Handles `GET /sse`: opens a stream whose first event names the URL to post to.
pub async fn on_sse(State(shared): State<Arc<Shared>>, source: Source, headers: HeaderMap) -> Response {
    if !accepts(&headers).events {
        return (StatusCode::NOT_ACCEPTABLE, "the Accept header must include text/event-stream\n")
            .into_response();
    }
    let (inbox, messages) = mpsc::channel(QUEUE);
    let (Some(instance), Some(registration)) =
        (shared.instances.for_headers(&headers, source), Inboxes::open(&shared, inbox, source))
    else {
        return overloaded();
    };
    let (out, replies) = mpsc::channel(QUEUE);
    let data = format!("/message?sessionId={}", registration.id).into();
    let first =
        sse::encode(&Event { event: Some(Bytes::from_static(b"endpoint")), data, ..Event::default() });
    tokio::spawn(async move {
        serve(instance, messages, out).await;
        drop(registration);
    });
    response::events(Body::from_stream(stream::unfold(
        (Some(first), replies),
        async |(first, mut replies)| {
            if let Some(first) = first {
                return Some((Ok::<_, Infallible>(first), (None, replies)));
            }
            match tokio::time::timeout(KEEP_ALIVE, replies.recv()).await {
                Err(_) => Some((Ok(Bytes::from_static(sse::KEEP_ALIVE)), (None, replies))),
                Ok(Some(message)) => {
                    let event = Some(Bytes::from_static(b"message"));
                    Some((
                        Ok(sse::encode(&Event { event, data: message, ..Event::default() })),
                        (None, replies),
                    ))
                }
                Ok(None) => None,
            }
        },
    )))
}

/// Handles `POST /message?sessionId=…`: passes a message to its stream, which carries the response.
pub async fn on_message(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    let Some(inbox) = query.get("sessionId").and_then(|id| shared.inboxes.find(id)) else {
        return (StatusCode::NOT_FOUND, "unknown stream; open one at /sse\n").into_response();
    };
    match inbox.try_send(body) {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(_) => overloaded(),
    }
}

/// Handles `GET /ws`.
pub async fn on_ws(
    State(shared): State<Arc<Shared>>,
    source: Source,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let (inbox, messages) = mpsc::channel(QUEUE);
    let (Some(instance), Some(registration)) =
        (shared.instances.for_headers(&headers, source), Inboxes::open(&shared, inbox.clone(), source))
    else {
        return overloaded();
    };
    let upgrade = upgrade.protocols([mcp::client::SUBPROTOCOL]);
    let upgrade = upgrade.max_message_size(MAX_BODY_BYTES).max_frame_size(MAX_BODY_BYTES);
    upgrade.on_upgrade(async move |socket| {
        run_websocket(instance, socket, inbox, messages).await;
        drop(registration);
    })
}

fn overloaded() -> Response {
    let retry = [(http::header::RETRY_AFTER, "1")];
    (
        StatusCode::SERVICE_UNAVAILABLE,
        retry,
        "too many clients are connected, or too many messages are waiting\n",
    )
        .into_response()
}

async fn run_websocket(
    instance: Arc<Instance>,
    mut socket: WebSocket,
    inbox: mpsc::Sender<Bytes>,
    messages: mpsc::Receiver<Bytes>,
) {
    let (out, mut replies) = mpsc::channel::<Bytes>(QUEUE);
    let serving = tokio::spawn(serve(instance, messages, out));
    let why = loop {
        let frame = tokio::select! {
            frame = socket.recv() => frame,
            message = replies.recv() => {
                let Some(Ok(text)) = message.map(TryInto::try_into) else {
                    break (close_code::RESTART, "reconnect");
                };
                match socket.send(Message::Text(text)).await {
                    Ok(()) => continue,
                    Err(_) => break (close_code::AWAY, ""),
                }
            }
        };
        let message: Bytes = match frame {
            Some(Ok(Message::Text(text))) => text.into(),
            // Some clients send text so, as edges know.
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(_)) | Err(_)) | None => break (close_code::NORMAL, ""),
        };
        if inbox.try_send(message).is_err() {
            break (close_code::AGAIN, "too many messages are waiting");
        }
    };
    drop(replies);
    let close = Message::Close(Some(CloseFrame { code: why.0, reason: why.1.into() }));
    // The client may have disconnected already.
    let _: Result<(), _> = socket.send(close).await;
    let _ended = serving.await;
}

/// Serves one client until it disconnects or misses a message.
async fn serve(instance: Arc<Instance>, mut messages: mpsc::Receiver<Bytes>, out: mpsc::Sender<Bytes>) {
    let lost = CancellationToken::new();
    let mut connection = Connection { instance, out: out.clone(), client: None, lost: lost.clone() };
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            () = out.closed() => return,
            () = lost.cancelled() => return,
        };
        let Some(message) = message else { return };
        connection.handle_all(message).await;
    }
}

impl Connection {
    /// Handles one message or, in 2025-03-26, a batch.
    async fn handle_all(&mut self, source: Bytes) {
        if !source.trim_ascii_start().starts_with(b"[") {
            return self.handle(source).await;
        }
        match split_batch(&source) {
            Ok(parts) => {
                for part in parts {
                    self.handle(source.slice(part)).await;
                }
            }
            Err(error) => self.refuse(&source, &error).await,
        }
    }

    async fn handle(&mut self, body: Bytes) {
        let meant = match Envelope::parse(&body) {
            Ok(message) => return self.handle_message(&body, message).await,
            Err(error) => mend(&body, error, Peer::Client),
        };
        match meant {
            Ok(mended) => match Envelope::parse(&mended.message) {
                Ok(message) => self.handle_message(&mended.message, message).await,
                Err(error) => self.refuse(&body, &error).await,
            },
            Err(unreadable) => self.refuse(&body, &unreadable.error).await,
        }
    }

    /// Answers what cannot be read, under the id of the request that it was to be.
    async fn refuse(&self, source: &[u8], error: &EnvelopeError) {
        let id = ids::id_of_unreadable(source);
        self.send(render(id, error.code(), &error.to_string(), None)).await;
    }

    async fn handle_message(&mut self, body: &Bytes, message: Envelope<'_>) {
        let result = match (message.kind(), &self.client) {
            (Kind::Request, _) if message.method.as_deref() == Some("initialize") => {
                self.initialize(&message).await
            }
            (Kind::Request, _) if message.method.as_deref() == Some("ping") => {
                return self.send(response::pong(message.id.unwrap_or_default())).await;
            }
            (Kind::Request, Some((child, client))) => self.call(child, *client, body, &message),
            (Kind::Request, None) => Err(render(message.id, INVALID_REQUEST, "start with initialize", None)),
            (Kind::Notification, Some((child, client))) => {
                child.notify(*client, body, &message);
                Ok(())
            }
            (Kind::Response, Some((child, client))) => {
                child.respond(*client, body, &message);
                Ok(())
            }
            (_, None) => Ok(()),
        };
        if let Err(refusal) = result {
            self.send(refusal).await;
        }
    }

    async fn initialize(&mut self, message: &Envelope<'_>) -> Result<(), Bytes> {
        let refuse = |code, why: &str| render(message.id, code, why, None);
        if self.client.is_some() {
            return Err(refuse(INVALID_REQUEST, "already initialized"));
        }
        let no_legacy_era = || refuse(UNSUPPORTED_VERSION, "this server does not support initialize");
        let child = self.instance.legacy.clone().ok_or_else(no_legacy_era)?;
        let info = child.ready().await.map_err(|not_ready| match not_ready {
            NotReady::Refused(_) => no_legacy_era(),
            not_ready => {
                let why = format!("the server behind this address is not ready: {not_ready}");
                BridgeError::NotReady.render(message.id, &why)
            }
        })?;
        let initialized = initialization(&info, message, Revision::V2024_11_05);
        let Initialization { capabilities, response, .. } =
            initialized.map_err(|_| refuse(INVALID_PARAMS, "invalid params"))?;
        let client = child.add_client(capabilities);
        if let Some(mut stream) = child.open_stream(client) {
            let (out, lost) = (self.out.clone(), self.lost.clone());
            tokio::spawn(async move {
                while let Some(message) = stream.recv().await {
                    if out.send(message).await.is_err() {
                        break;
                    }
                }
                lost.cancel();
            });
        }
        self.client = Some((child, client));
        self.send(response).await;
        Ok(())
    }

    fn call(
        &self,
        child: &SupervisedChild,
        client: ClientId,
        body: &Bytes,
        message: &Envelope<'_>,
    ) -> Result<(), Bytes> {
        let busy = || BridgeError::TooManyCalls.render(message.id, "too many calls are in flight");
        let mut items = child.call(client, body, message).ok_or_else(busy)?;
        let out = self.out.clone();
        tokio::spawn(async move {
            while let Some(CallMessage::Interim(message) | CallMessage::Final(message)) = items.recv().await {
                if out.send(message).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    async fn send(&self, message: Bytes) {
        // It fails only when the client has disconnected, which also ends this connection.
        let _: Result<(), _> = self.out.send(message).await;
    }
}
