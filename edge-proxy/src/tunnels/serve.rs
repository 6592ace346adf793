//! Serves the tunnels to this edge, and announces them to the siblings. It must not know who may open one.

use std::convert::Infallible;
use std::io;
use std::net::TcpStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::either::Either;
use tunnel::{Role, Tunnel};

use super::Tunnels;
use crate::fleet::Fleet;
use crate::observe::Metrics;
use crate::os::clock;
use crate::session::event;
use crate::snapshot::{Current, Snapshot};
use crate::transport::TlsStream;

/// The time that an upstream has to take the news that this edge is stopping.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(5);

/// A tunnel that was accepted.
#[derive(Debug)]
pub(super) struct AcceptedTunnel {
    /// The connection, on which frames follow.
    pub(super) socket: Socket,
    /// The bytes that were read already.
    pub(super) ahead: Bytes,
    /// The uid of the upstream.
    pub(super) upstream: Arc<str>,
}

/// A connection that belongs to no thread.
#[derive(Debug)]
pub(super) enum Socket {
    /// One without TLS.
    Plain(StdStream),
    /// The state of TLS, and its socket.
    Tls(Box<TlsStream>, StdStream),
}

impl Socket {
    /// Gives the connection to the runtime of this thread.
    fn into_stream(self) -> io::Result<Either<TcpStream, Box<TlsStream>>> {
        Ok(match self {
            Self::Plain(socket) => Either::Left(TcpStream::from_std(socket)?),
            Self::Tls(mut stream, socket) => {
                stream.get_mut().0.put(socket)?;
                Either::Right(stream)
            }
        })
    }
}

/// The parts of the edge that tunnels use.
#[derive(Clone)]
pub struct TunnelServer {
    /// The tunnels.
    pub tunnels: Arc<Tunnels>,
    /// The siblings, which are told of tunnels here.
    pub fleet: Arc<Fleet>,
    /// The snapshot in force.
    pub current: Arc<Current>,
    /// The counters and gauges.
    pub metrics: Arc<Metrics>,
}

impl TunnelServer {
    /// Serves accepted tunnels until the future is dropped. To be run once.
    pub async fn run(self) {
        let Some(mut to_serve) = self.tunnels.take_accepted() else { return };
        let mut tunnels = JoinSet::new();
        let mut published = self.current.subscribe();
        loop {
            tokio::select! {
                Some(accepted) = to_serve.recv() => drop(tunnels.spawn(self.clone().serve(accepted))),
                Some(_) = tunnels.join_next() => {}
                Ok(()) = published.changed() => {
                    let snapshot = self.current.load_full();
                    self.tunnels.local.retain(|upstream| dials_in(&snapshot, upstream));
                    self.tunnels.remote.retain(
                        |upstream| dials_in(&snapshot, upstream),
                        |edge| snapshot.siblings.contains_key(edge),
                    );
                }
                else => return,
            }
        }
    }

    async fn serve(self, accepted: AcceptedTunnel) {
        let upstream = Arc::clone(&accepted.upstream);
        let (tunnel, driver) = match start(accepted).await {
            Ok(started) => started,
            Err(error) => return tracing::info!(%error, "cannot open a tunnel"),
        };
        let had = self.tunnels.local.has(&upstream);
        let Ok(entry) = self.tunnels.local.register(&upstream, tunnel.clone()) else {
            return tracing::warn!(upstream = &*upstream, "too many tunnels are open");
        };
        // The upstream may have been deleted since the tunnel was accepted.
        if !dials_in(&self.current.load_full(), &upstream) {
            return;
        }
        let counted = self.metrics.tunnels.enter();
        tracing::info!(upstream = &*upstream, "tunnel opened");
        let over = async {
            tokio::select! {
                error = driver => (error.to_string(), entry.ended(&error)),
                () = entry.close_requested() => ("the upstream no longer uses it".to_owned(), false),
                never = self.hand_over(&upstream, &tunnel) => match never {},
            }
        };
        // The tunnel is served while it is announced, because a sibling may be slow.
        let announced = async {
            if !had {
                self.announce(&upstream).await;
            }
        };
        let ((why, flood), ()) = tokio::join!(over, announced);
        drop((entry, counted));
        if flood {
            self.metrics.tunnel_floods.inc();
            tracing::warn!(upstream = &*upstream, why, "tunnel closed");
        } else {
            tracing::info!(upstream = &*upstream, why, "tunnel closed");
        }
        if !self.tunnels.local.has(&upstream) {
            self.announce(&upstream).await;
        }
    }

    /// Once this edge is stopping, tells the upstream to dial another, and the siblings that the tunnel ends.
    async fn hand_over(&self, upstream: &str, tunnel: &Tunnel) -> Infallible {
        self.tunnels.draining.cancelled().await;
        let told = async {
            match tokio::time::timeout(ANNOUNCE_TIMEOUT, tunnel.announce_draining()).await {
                Ok(Ok(())) => tracing::info!(upstream, "told an upstream to open its tunnel to another edge"),
                // It dials again when the tunnel has ended.
                Ok(Err(error)) => {
                    tracing::debug!(upstream, %error, "an upstream cannot be told that its tunnel ends")
                }
                Err(_) => {
                    tracing::debug!(upstream, "an upstream does not respond to the news that its tunnel ends")
                }
            }
        };
        tokio::join!(told, self.announce(upstream));
        std::future::pending().await
    }

    /// Announces to the siblings whether this edge has a tunnel to an upstream for them.
    async fn announce(&self, upstream: &str) {
        let (edge, open) = (self.fleet.waiters().edge(), self.tunnels.is_here(upstream));
        self.fleet.broadcast(event::tunnel_changed(upstream, edge, open, clock::now_us())).await;
    }
}

fn dials_in(snapshot: &Snapshot, uid: &str) -> bool {
    snapshot.upstreams.values().any(|upstream| *upstream.uid == *uid && upstream.reach.is_tunnel())
}

async fn start(accepted: AcceptedTunnel) -> io::Result<(Tunnel, impl Future<Output = io::Error> + Send)> {
    let socket = accepted.socket.into_stream()?;
    let carrier = tunnel::websocket(socket, Role::Server, accepted.ahead.to_vec()).await;
    Tunnel::start(carrier).await
}
