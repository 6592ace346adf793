//! Sockets of clients: accepts, bounds, speaks TLS where told to, HTTP/1.1 and HTTP/2, drains. It must not know what a request asks
//! for.

mod http1;
mod http2;
mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use inbound::{Connection, LineLimit, ProxyProtocolError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use crate::context::{self, EdgeState, WorkerState};
use crate::transport::HttpConnection;
use crate::usage::Shard;

/// Past `--send-timeout`, when HTTP+SSE and WebSocket end a connection and say why, a client that still reads nothing is cut
/// off.
const CUT_OFF_AFTER: Duration = Duration::from_secs(10);
/// The time that an edge that drains gives a new connection for its first request, which is on its way.
const FIRST_REQUEST: Duration = Duration::from_secs(2);
/// The time that a connection which must close has to finish what it has begun.
const FAREWELL: Duration = Duration::from_secs(1);
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// A balancer that is configured otherwise causes such lines with every connection.
static BAD_BALANCERS: LineLimit<IpAddr> = LineLimit::new();

/// Serves one worker's share of the connections until `drain` turns true and the last of them has ended.
///
/// To be run once on each worker thread, on a current-thread runtime of its own; each has a clone of the listener. What
/// still runs when the caller stops waiting is dropped with the future.
///
/// # Errors
/// If the socket cannot be used by this runtime.
pub async fn serve(
    listener: StdListener,
    shared: Arc<EdgeState>,
    usage: Rc<Shard>,
    drain: watch::Receiver<bool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (worker, mut commands) = WorkerState::new(shared, Rc::clone(&usage), drain);
    let local = LocalSet::new();
    local
        .run_until(async {
            tokio::task::spawn_local(usage.run());
            let sweeper = Rc::clone(&worker);
            tokio::task::spawn_local(async move { sweep(&sweeper).await });
            tokio::task::spawn_local(context::watch(Rc::clone(&worker)));
            let follower = Rc::clone(&worker);
            tokio::task::spawn_local(async move {
                while let Some(command) = commands.recv().await {
                    follower.upstreams.apply(command);
                }
            });
            accept(listener, &worker).await;
            worker.upstreams.close().await;
            worker.usage.finish().await;
        })
        .await;
    Ok(())
}

/// Accepts until draining, then waits for the open connections.
async fn accept(listener: TcpListener, worker: &Rc<WorkerState>) {
    let mut drain = worker.drain.clone();
    // Every connection has a sender; when the last is dropped, `ended` ends.
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let connections = &worker.shared.connections;
    loop {
        tokio::select! {
            (stream, _, connection) = inbound::accept(&listener, connections) => {
                spawn_connection(stream, connection, worker, alive.clone());
            }
            _ = drain.wait_for(|draining| *draining) => break,
        }
    }
    // Clients that have connected are served; further ones are refused, so that balancers go elsewhere.
    for (stream, address) in unaccepted(listener) {
        if let Ok(connection) = connections.open(address.ip()) {
            spawn_connection(stream, connection, worker, alive.clone());
        }
    }
    drop(alive);
    // Nothing is ever sent: this returns when all connections have ended.
    let _: Option<()> = ended.recv().await;
}

/// Accepts the connections in the backlog, because closing the socket would reset them.
fn unaccepted(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let accepted = |listener: StdListener| -> Vec<_> {
        let to_async =
            |stream: StdStream| stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)).ok();
        std::iter::from_fn(|| listener.accept().ok())
            .filter_map(|(stream, address)| Some((to_async(stream)?, address)))
            .collect()
    };
    listener.into_std().map(accepted).unwrap_or_default()
}

fn spawn_connection(
    mut stream: TcpStream,
    connection: Connection,
    worker: &Rc<WorkerState>,
    alive: mpsc::Sender<()>,
) {
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let counted = worker.shared.environment.metrics.connections.enter();
        // Small answers must not wait for the acknowledgement of earlier ones.
        if stream.set_nodelay(true).is_ok()
            && let Some(origin) = origin(&mut stream, connection, &worker.shared).await
        {
            match &worker.shared.client_port.tls {
                None => serve_plain(stream, &origin, &worker).await,
                // Boxed: connections without TLS would hold the room for it.
                Some(tls) => Box::pin(tls::serve(stream, &origin, &worker, tls)).await,
            }
        }
        drop((counted, alive));
    });
}

/// A connection, and where it came from as far as it says so itself.
struct Origin {
    connection: Connection,
    address: Option<IpAddr>,
}

/// Finds out where a connection came from, before anything is read of it. One that a proxy opened for a client alone takes the
/// place of that client. `None` if it is to be closed.
async fn origin(stream: &mut TcpStream, connection: Connection, shared: &EdgeState) -> Option<Origin> {
    let peer = connection.handle().address();
    let address = tokio::select! {
        biased;
        read = shared.client_addresses.of_connection(stream, peer) => read,
        _ = connection.must_close() => return None,
    };
    let address = address.inspect_err(|error| refuse(shared, peer, error)).ok()?;
    match address.filter(|client| *client != peer) {
        None => Some(Origin { connection, address }),
        Some(client) => {
            drop(connection);
            let connection = shared.connections.open(client).ok()?;
            Some(Origin { connection, address })
        }
    }
}

fn refuse(shared: &EdgeState, peer: IpAddr, error: &ProxyProtocolError) {
    shared.environment.metrics.proxy_headers_refused.inc();
    if let Some(times) = BAD_BALANCERS.count(peer) {
        tracing::warn!(%peer, %error, times, "refused a connection of a balancer");
    }
}

async fn serve_plain(stream: TcpStream, origin: &Origin, worker: &Rc<WorkerState>) {
    let http_connection = Rc::new(origin.http_connection(worker));
    http1::serve(stream, &origin.connection, &http_connection, worker, |_: &mut HeaderMap| {}).await;
}

impl Origin {
    fn http_connection(&self, worker: &WorkerState) -> HttpConnection {
        let addresses = Arc::clone(&worker.shared.client_addresses);
        HttpConnection::new(self.connection.handle().clone(), addresses, self.address)
    }
}

/// Serves a connection to its end: until the client closes it, it must close, or, once `leaves` is over, what it has begun has ended.
async fn drive<F: Future<Output = hyper::Result<()>>>(
    served: F,
    leave: impl Fn(Pin<&mut F>),
    leaves: impl Future<Output = ()>,
    connection: &Connection,
    http_connection: &HttpConnection,
) {
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => ended,
        () = http_connection.cut_off() => return,
        reason = connection.must_close() => {
            if reason.may_finish() {
                leave(served.as_mut());
                let _ = tokio::time::timeout(FAREWELL, served).await;
            }
            return;
        }
        () = leaves => {
            leave(served.as_mut());
            tokio::select! {
                ended = served => ended,
                () = http_connection.cut_off() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client connection ended early");
    }
    if let Some(upgraded) = http_connection.upgraded() {
        upgraded.await;
    }
}

/// Waits until the edge drains and the connection has had its time for a first request. One without any request is closed at once by
/// what follows.
async fn drained(worker: &WorkerState, http_connection: &HttpConnection) {
    let mut drain = worker.drain.clone();
    let _ = drain.wait_for(|draining| *draining).await;
    let _ = tokio::time::timeout(FIRST_REQUEST, http_connection.first_request()).await;
}

async fn sweep(worker: &Rc<WorkerState>) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    loop {
        tick.tick().await;
        worker.upstreams.sweep();
    }
}
