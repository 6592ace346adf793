//! Serves the tunnels to this edge, and announces them to the siblings. It must not know who may open one.

use std::io;
use std::net::TcpStream as StdStream;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tunnel::{Role, Tunnel};

use super::Tunnels;
use crate::context::EdgeState;
use crate::os::clock;
use crate::session::event;
use crate::snapshot::Snapshot;

/// A tunnel that was accepted.
#[derive(Debug)]
pub(super) struct AcceptedTunnel {
    /// The connection, on which frames follow.
    pub(super) socket: StdStream,
    /// The bytes that were read already.
    pub(super) ahead: Bytes,
    /// The uid of the upstream.
    pub(super) upstream: Arc<str>,
}

impl Tunnels {
    /// Serves accepted tunnels until the future is dropped. To be run once.
    pub async fn serve(shared: Arc<EdgeState>) {
        let Some(mut to_serve) = shared.tunnels.take_accepted() else { return };
        let mut tunnels = JoinSet::new();
        let mut published = shared.current.subscribe();
        loop {
            tokio::select! {
                Some(accepted) = to_serve.recv() => drop(tunnels.spawn(serve_tunnel(Arc::clone(&shared), accepted))),
                Some(_) = tunnels.join_next() => {}
                Ok(()) = published.changed() => {
                    let snapshot = shared.current.load_full();
                    shared.tunnels.local.retain(|upstream| dials_in(&snapshot, upstream));
                    shared.tunnels.remote.retain(
                        |upstream| dials_in(&snapshot, upstream),
                        |edge| snapshot.siblings.contains_key(edge),
                    );
                }
                else => return,
            }
        }
    }
}

fn dials_in(snapshot: &Snapshot, uid: &str) -> bool {
    snapshot.upstreams.values().any(|upstream| *upstream.uid == *uid && upstream.dials_in)
}

async fn serve_tunnel(shared: Arc<EdgeState>, accepted: AcceptedTunnel) {
    let upstream = Arc::clone(&accepted.upstream);
    let (tunnel, driver) = match start(accepted).await {
        Ok(started) => started,
        Err(error) => return tracing::info!(%error, "cannot open a tunnel"),
    };
    let had = shared.tunnels.local.has(&upstream);
    let Ok(entry) = shared.tunnels.local.register(&upstream, tunnel) else {
        return tracing::warn!(upstream = &*upstream, "too many tunnels are open");
    };
    // The upstream may have been deleted since the tunnel was accepted.
    if !dials_in(&shared.current.load_full(), &upstream) {
        return;
    }
    let counted = shared.metrics.tunnels.enter();
    tracing::info!(upstream = &*upstream, "tunnel opened");
    let over = async {
        tokio::select! {
            why = driver => why.to_string(),
            () = entry.close_requested() => "the upstream no longer uses it".to_owned(),
        }
    };
    // The tunnel is served while it is announced, because a sibling may be slow.
    let announced = async {
        if !had {
            announce(&shared, &upstream).await;
        }
    };
    let (why, ()) = tokio::join!(over, announced);
    drop((entry, counted));
    tracing::info!(upstream = &*upstream, why, "tunnel closed");
    if !shared.tunnels.local.has(&upstream) {
        announce(&shared, &upstream).await;
    }
}

async fn start(accepted: AcceptedTunnel) -> io::Result<(Tunnel, impl Future<Output = io::Error> + Send)> {
    let socket = TcpStream::from_std(accepted.socket)?;
    let carrier = tunnel::websocket(socket, Role::Server, accepted.ahead.to_vec()).await;
    Tunnel::start(carrier).await
}

/// Announces to the siblings whether this edge has a tunnel to an upstream.
async fn announce(shared: &EdgeState, upstream: &str) {
    let (edge, open) = (shared.fleet.waiters().edge(), shared.tunnels.local.has(upstream));
    shared.fleet.broadcast(event::tunnel_changed(upstream, edge, open, clock::now_us())).await;
}
