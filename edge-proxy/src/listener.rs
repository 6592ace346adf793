//! Sockets: accepts, bounds, speaks HTTP, drains. It must not know what a request asks for.

use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use crate::transport::Wire;
use crate::usage::Shard;
use crate::worker::{Shared, Worker};
use crate::{active_calls, request};

/// How long to wait after a failed accept: mostly there are no file descriptors left, and they come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How far a connection is read beyond a head.
const READ_AHEAD: usize = 64 << 10;
/// How long an edge that drains waits for the first request of who has just connected: it is on its way.
const FIRST_REQUEST: Duration = Duration::from_secs(2);
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Serves one worker's share of the connections until `drain` turns true and the last of them has ended.
///
/// To be run once on each worker thread, on a current-thread runtime of its own; each has a clone of the listener. What
/// still runs when the caller's patience ends is dropped with the future.
///
/// # Errors
/// When the socket cannot be used by this runtime.
pub async fn serve(
    listener: StdListener,
    shared: Arc<Shared>,
    usage: Rc<Shard>,
    drain: watch::Receiver<bool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (worker, mut orders) = Worker::new(shared, Rc::clone(&usage), drain);
    let local = LocalSet::new();
    local
        .run_until(async {
            tokio::task::spawn_local(usage.run());
            let sweeper = Rc::clone(&worker);
            tokio::task::spawn_local(async move { sweep(&sweeper).await });
            tokio::task::spawn_local(active_calls::watch(Rc::clone(&worker)));
            let follower = Rc::clone(&worker);
            tokio::task::spawn_local(async move {
                while let Some(order) = orders.recv().await {
                    follower.upstreams.apply(order);
                }
            });
            accept(listener, &worker).await;
            worker.upstreams.close().await;
            worker.usage.finish().await;
        })
        .await;
    Ok(())
}

/// Accepts until draining, then waits for the connections there are.
async fn accept(listener: TcpListener, worker: &Rc<Worker>) {
    let mut drain = worker.drain.clone();
    // Every connection holds a sender; when the last is gone, `ended` ends.
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let shared = &worker.shared;
    loop {
        let full = shared.connections.load(Ordering::Relaxed) >= shared.limits.max_connections;
        let next = async {
            if full {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                return None;
            }
            Some(listener.accept().await)
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            _ = drain.wait_for(|draining| *draining) => break,
        };
        match accepted {
            None => {}
            Some(Ok((stream, _))) => open(stream, worker, alive.clone()),
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Who has connected is served; from here on connecting is refused, so that balancers go elsewhere.
    for stream in waiting(listener) {
        open(stream, worker, alive.clone());
    }
    drop(alive);
    // Nothing is ever sent: this returns when all connections have ended.
    let _: Option<()> = ended.recv().await;
}

/// The connections that nobody has accepted yet. The socket is closed with that: they would be reset.
fn waiting(listener: TcpListener) -> Vec<TcpStream> {
    let accepted = |listener: StdListener| -> Vec<TcpStream> {
        let next = || listener.accept().ok().map(|(stream, _)| stream);
        std::iter::from_fn(next)
            .filter_map(|stream| stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)).ok())
            .collect()
    };
    listener.into_std().map(accepted).unwrap_or_default()
}

fn open(stream: TcpStream, worker: &Rc<Worker>, alive: mpsc::Sender<()>) {
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let counted = Counted::new(Rc::clone(&worker));
        // Small answers must not wait for the acknowledgement of earlier ones.
        if stream.set_nodelay(true).is_ok() {
            connection(stream, &worker).await;
        }
        drop((counted, alive));
    });
}

async fn connection(stream: TcpStream, worker: &Rc<Worker>) {
    let limits = &worker.shared.limits;
    let wire = Rc::new(Wire::default());
    let service = service_fn(|request| {
        let (worker, wire) = (Rc::clone(worker), Rc::clone(&wire));
        wire.ask();
        async move { Ok::<_, std::convert::Infallible>(request::serve(&worker, &wire, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(limits.max_header_bytes + READ_AHEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let mut drain = worker.drain.clone();
    let drained = async {
        let _ = drain.wait_for(|draining| *draining).await;
        // A connection on which nothing was said is closed at once by what follows.
        let _ = tokio::time::timeout(FIRST_REQUEST, wire.was_asked()).await;
    };
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => ended,
        () = wire.was_cut() => return,
        () = drained => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                ended = served => ended,
                () = wire.was_cut() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client connection ended early");
    }
    if let Some(afterwards) = wire.afterwards() {
        afterwards.await;
    }
}

async fn sweep(worker: &Rc<Worker>) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    loop {
        tick.tick().await;
        worker.upstreams.sweep();
    }
}

/// An open connection, counted.
struct Counted {
    worker: Rc<Worker>,
    _gauge: crate::observe::Entered,
}

impl Counted {
    fn new(worker: Rc<Worker>) -> Self {
        worker.shared.connections.fetch_add(1, Ordering::Relaxed);
        let gauge = worker.shared.metrics.connections.enter();
        Self { worker, _gauge: gauge }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.worker.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
