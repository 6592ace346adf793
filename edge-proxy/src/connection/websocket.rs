//! WebSocket: each frame is a message, in either direction; those to the client are text. It must not know what the messages ask for.
//!
//! It follows the SDKs that have this transport: subprotocol `mcp`, no session id, the connection is the session.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use mcp::json;
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message as Frame, Role};

use super::{ClientConnection, ConnectionGuard, Handler};
use crate::context::{RequestContext, StreamPermit, WorkerState};
use crate::error::Failure;
use crate::observe::{Bound, CloseReason, ConnectionTransport};
use crate::respond::Reply;
use crate::session::event;
use crate::session::ticket::{self, Ticket};
use crate::transport::websocket::{FrameEvent, Handshake, SUBPROTOCOL, close, config, frame_event};
use crate::transport::{Body, BufferedBody, HttpConnection};

/// The time that a client has to read what is left, and to confirm the closing.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Makes a ticket for the server in `context`, in exchange for the bearer.
pub fn ticket(context: &RequestContext<'_>) -> Result<Reply, Failure> {
    let server = context.server();
    let none = "a ticket stands for a bearer; open the WebSocket with the client certificate itself";
    let bearer = context.presented.bearer.ok_or_else(|| Failure::Invalid(none.to_owned()))?;
    let ticket = Ticket::new(bearer, context.now()).seal(&context.snapshot.trust, &server.id, &server.uid);
    let ticket = ticket.map_err(|error| Failure::Internal(error.to_string()))?;
    let body = format!(r#"{{"ticket":{},"expires_in":{}}}"#, json::quote(&ticket), ticket::LIFETIME);
    Ok(Reply::json([Bytes::from(body)]))
}

/// Forbids caching of an answer that holds a secret.
pub fn no_store(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Opens a ticket for the server with this id.
pub fn open_ticket(worker: &WorkerState, server: &str, text: &str) -> Result<Ticket, Failure> {
    let snapshot = worker.shared.environment.current.load();
    let uid = &snapshot.servers.get(server).ok_or(Failure::Ticket)?.uid;
    Ticket::open(&snapshot.trust, server, uid, text, worker.now()).ok_or(Failure::Ticket)
}

/// Redeems a ticket of the caller on every edge that can be reached.
pub async fn redeem(context: &RequestContext<'_>, ticket: &Ticket) -> Result<(), Failure> {
    let (shared, principal) = (&context.worker.shared, &context.principal().uid);
    let spent = shared.used_tickets.spend(ticket, principal, context.now());
    if !spent.map_err(|no_room| shared.no_room(Bound::Tickets, no_room))? {
        return Err(Failure::Ticket);
    }
    shared.environment.fleet.broadcast(event::ticket_used(ticket, principal)).await;
    Ok(())
}

/// Answers with the change of protocol, and leaves the connection to a session.
pub fn open(
    context: &RequestContext<'_>,
    permit: StreamPermit,
    handshake: &Handshake,
    upgrade: OnUpgrade,
    http_connection: &HttpConnection,
    handler: Handler,
) -> Result<Response<Body>, Failure> {
    let response = handshake.accept(SUBPROTOCOL)?;
    let guard = ConnectionGuard::open(context, ConnectionTransport::WebSocket, permit, handler);
    http_connection.upgrade_to(async move {
        // A connection that ended before it changed its protocol is no error.
        if let Ok(upgraded) = upgrade.await {
            run(guard, upgraded).await;
        }
    });
    Ok(response)
}

async fn run(mut guard: ConnectionGuard, upgraded: Upgraded) {
    let connection = Rc::clone(&guard.connection);
    let limits = &connection.worker.shared.environment.limits;
    let config = config(limits.max_body_bytes);
    let socket: Socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (mut sink, mut source) = socket.split();
    let last_received = Cell::new(Instant::now());
    let reason = tokio::select! {
        reason = read(&connection, &mut source, &last_received) => reason,
        reason = write(&mut guard, &mut sink, &last_received) => reason,
    };
    connection.end(reason);
    let closing = async {
        if reason == CloseReason::Drain {
            while let Some(message) = guard.outbox.try_recv() {
                sink.send(frame(message)?).await.ok()?;
            }
        }
        let (code, reason) = close(reason, connection.session.current().is_some());
        sink.send(Frame::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) })))
            .await
            .ok()?;
        let mut raw = sink.reunite(source).ok()?;
        drain(raw.get_mut()).await;
        Some(())
    };
    // A client that takes longer is cut off.
    let _: Result<Option<()>, _> = tokio::time::timeout(CLOSING_TIMEOUT, closing).await;
}

/// Receives frames until one of them, or the end of the stream, ends the connection.
async fn read(
    connection: &Rc<ClientConnection>,
    source: &mut SplitStream<Socket>,
    last_received: &Cell<Instant>,
) -> CloseReason {
    loop {
        let frame_event = frame_event(source.next().await);
        last_received.set(Instant::now());
        match frame_event {
            FrameEvent::Message(message) => match within_budget(connection, message.clone()) {
                Ok(message) => connection.receive(message).await,
                Err(failure) => connection.refuse(&message, &failure).await,
            },
            FrameEvent::Alive => {}
            FrameEvent::End(reason) => return reason,
        }
    }
}

/// Takes the memory for a message that is not small from the share of its token.
fn within_budget(connection: &ClientConnection, message: Bytes) -> Result<Bytes, Failure> {
    let environment = &connection.worker.shared.environment;
    let reserve = || environment.bodies.reservation(&*connection.token);
    let mut buffered = BufferedBody::within(environment.limits.max_body_bytes, reserve);
    buffered.push(message).map_err(|_| Failure::BodyMemory)?;
    Ok(buffered.finish())
}

/// Writes messages, and pings a client that is silent.
async fn write(
    guard: &mut ConnectionGuard,
    sink: &mut SplitSink<Socket, Frame>,
    last_received: &Cell<Instant>,
) -> CloseReason {
    let limits = &guard.connection.worker.shared.environment.limits;
    let mut ping = tokio::time::interval(limits.ping_interval);
    ping.reset();
    loop {
        let frame = tokio::select! {
            biased;
            Some(message) = guard.outbox.recv() => match frame(message) {
                Some(frame) => frame,
                None => continue,
            },
            _ = ping.tick() => Frame::Ping(Bytes::new()),
            ended = guard.close_reason.wait_for(Option::is_some) => {
                return ended.ok().and_then(|reason| *reason).unwrap_or(CloseReason::Client);
            }
        };
        if matches!(frame, Frame::Ping(_)) && last_received.get().elapsed() > limits.ping_interval * 2 {
            return CloseReason::Silent;
        }
        match tokio::time::timeout(limits.send_timeout, sink.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return CloseReason::Client,
            Err(_) => return CloseReason::NotReading,
        }
    }
}

/// Makes a frame of a message. Messages are UTF-8 by the time they get here.
fn frame(message: Bytes) -> Option<Frame> {
    Utf8Bytes::try_from(message).ok().map(Frame::Text)
}

/// Reads on without keeping anything: a client that is still writing does not read the close frame yet, and closing the
/// socket would discard it.
async fn drain(raw: &mut TokioIo<Upgraded>) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = raw.read(&mut buffer).await {}
}
