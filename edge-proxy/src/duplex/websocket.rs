//! WebSocket: each frame of text is a message, in either direction. It must not know what the messages ask for.
//!
//! The conventions of the SDKs that speak it: subprotocol `mcp`, no session id, the connection is the session.

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

use super::{Duplex, Handler, Root};
use crate::error::Failure;
use crate::observe::{Ending, Transport};
use crate::respond::Reply;
use crate::scene::Scene;
use crate::session::event;
use crate::session::ticket::{self, Ticket};
use crate::snapshot::Snapshot;
use crate::transport::websocket::{Handshake, Heard, SUBPROTOCOL, close, config, heard};
use crate::transport::{Body, Wire};
use crate::worker::Worker;

/// How long a client has for what was said before the end, and to say that it heard it.
const FAREWELL: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A ticket for the server that `scene` is about, in exchange for the bearer.
pub fn ticket(scene: &Scene<'_>, bearer: &str) -> Result<Reply, Failure> {
    let server = &scene.view.server;
    let ticket = Ticket::new(bearer, scene.now).seal(&scene.snapshot.trust, &server.id, &server.uid);
    let ticket = ticket.map_err(|error| Failure::Internal(error.to_string()))?;
    let body = format!(r#"{{"ticket":{},"expires_in":{}}}"#, json::quote(&ticket), ticket::LIFETIME);
    Ok(Reply::json([Bytes::from(body)]))
}

/// Answers that hold a secret are nobody's to keep.
pub fn keep_nowhere(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The bearer that a ticket stands for, which is used by that, on every edge that can be reached.
pub async fn redeem(
    worker: &Worker,
    snapshot: &Snapshot,
    server: &str,
    ticket: &str,
    now: u64,
) -> Result<String, Failure> {
    let uid = &snapshot.servers.get(server).ok_or(Failure::Ticket)?.uid;
    let ticket = Ticket::open(&snapshot.trust, server, uid, ticket, now).ok_or(Failure::Ticket)?;
    if !worker.shared.spent.spend(&ticket, now) {
        return Err(Failure::Ticket);
    }
    worker.shared.peers.tell(event::ticket_used(&ticket)).await;
    Ok(ticket.bearer)
}

/// Answers that WebSocket is spoken from now on, and leaves the connection to a session.
pub fn open(
    scene: &Scene<'_>,
    bearer: &str,
    handshake: &Handshake,
    upgrade: OnUpgrade,
    wire: &Wire,
    handler: Handler,
) -> Result<Response<Body>, Failure> {
    let root = Root::open(scene, Transport::WebSocket, bearer, handler)?;
    let response = handshake.answer(SUBPROTOCOL)?;
    wire.hand_over(async move {
        // A connection that ended before it changed its protocol is no error of anybody's.
        if let Ok(upgraded) = upgrade.await {
            run(root, upgraded).await;
        }
    });
    Ok(response)
}

async fn run(mut root: Root, upgraded: Upgraded) {
    let duplex = Rc::clone(&root.duplex);
    let limits = &duplex.worker.shared.limits;
    let config = config(limits.max_body_bytes);
    let socket: Socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (mut sink, mut source) = socket.split();
    let last_heard = Cell::new(Instant::now());
    let ending = tokio::select! {
        ending = read(&duplex, &mut source, &last_heard) => ending,
        ending = write(&mut root, &mut sink, &last_heard) => ending,
    };
    duplex.end(ending);
    let farewell = async {
        if ending == Ending::Drain {
            while let Ok(message) = root.outbox.try_recv() {
                sink.send(frame(message)?).await.ok()?;
            }
        }
        let (code, reason) = close(ending, duplex.session.begun().is_some());
        sink.send(Frame::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) })))
            .await
            .ok()?;
        let mut raw = sink.reunite(source).ok()?;
        read_out(raw.get_mut()).await;
        Some(())
    };
    // A client that takes longer has been given its chance.
    let _: Result<Option<()>, _> = tokio::time::timeout(FAREWELL, farewell).await;
}

/// Takes the client's frames until one of them, or their lack, is the end.
async fn read(duplex: &Rc<Duplex>, source: &mut SplitStream<Socket>, last_heard: &Cell<Instant>) -> Ending {
    loop {
        let heard = heard(source.next().await);
        last_heard.set(Instant::now());
        match heard {
            Heard::Message(message) => duplex.hear(message).await,
            Heard::Alive => {}
            Heard::End(ending) => return ending,
        }
    }
}

/// Writes what is said, and asks a silent client whether it is there.
async fn write(root: &mut Root, sink: &mut SplitSink<Socket, Frame>, last_heard: &Cell<Instant>) -> Ending {
    let limits = &root.duplex.worker.shared.limits;
    let mut ping = tokio::time::interval(limits.ping_interval);
    ping.reset();
    loop {
        let frame = tokio::select! {
            biased;
            Some(message) = root.outbox.recv() => match frame(message) {
                Some(frame) => frame,
                None => continue,
            },
            _ = ping.tick() => Frame::Ping(Bytes::new()),
            ended = root.ending.wait_for(Option::is_some) => {
                return ended.ok().and_then(|ending| *ending).unwrap_or(Ending::Client);
            }
        };
        if matches!(frame, Frame::Ping(_)) && last_heard.get().elapsed() > limits.ping_interval * 2 {
            return Ending::Silent;
        }
        match tokio::time::timeout(limits.send_timeout, sink.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ending::Client,
            Err(_) => return Ending::NotReading,
        }
    }
}

/// A message as a frame. What is not UTF-8, which no message is that got here, cannot be one.
fn frame(message: Bytes) -> Option<Frame> {
    Utf8Bytes::try_from(message).ok().map(Frame::Text)
}

/// Reads on without keeping anything: a client that is still writing does not read why it is closed, and a connection
/// closed under it takes the reason with it.
async fn read_out(raw: &mut TokioIo<Upgraded>) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = raw.read(&mut buffer).await {}
}
