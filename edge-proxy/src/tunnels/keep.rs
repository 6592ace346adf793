//! Keeps the tunnels to this edge, and tells the other edges which there are. It must not know who may open one.

use std::io;
use std::net::TcpStream as StdStream;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tunnel::{Role, Tunnel};

use super::Tunnels;
use crate::clock;
use crate::session::event;
use crate::snapshot::Snapshot;
use crate::worker::Shared;

/// A tunnel that was let in.
#[derive(Debug)]
pub(super) struct Arrival {
    /// The connection, on which frames follow.
    pub(super) socket: StdStream,
    /// What was read of them already.
    pub(super) ahead: Bytes,
    /// The uid of the upstream.
    pub(super) upstream: Arc<str>,
}

impl Tunnels {
    /// Keeps what arrives, until the future is dropped. To be run once.
    pub async fn serve(shared: Arc<Shared>) {
        let Some(mut arriving) = shared.tunnels.take_arriving() else { return };
        let mut kept = JoinSet::new();
        let mut published = shared.current.subscribe();
        loop {
            tokio::select! {
                Some(arrival) = arriving.recv() => drop(kept.spawn(keep(Arc::clone(&shared), arrival))),
                Some(_) = kept.join_next() => {}
                Ok(()) = published.changed() => {
                    let snapshot = shared.current.load();
                    shared.tunnels.near.retain(|upstream| dials_in(&snapshot, upstream));
                }
                else => return,
            }
        }
    }
}

fn dials_in(snapshot: &Snapshot, uid: &str) -> bool {
    snapshot.upstreams.values().any(|upstream| *upstream.uid == *uid && upstream.dials_in)
}

async fn keep(shared: Arc<Shared>, arrival: Arrival) {
    let upstream = Arc::clone(&arrival.upstream);
    let (tunnel, driver) = match begin(arrival).await {
        Ok(begun) => begun,
        Err(error) => return tracing::info!(%error, "a tunnel did not begin"),
    };
    let Ok(entry) = shared.tunnels.near.enter(&upstream, tunnel) else { return };
    let counted = shared.metrics.tunnels.enter();
    tracing::info!(upstream = &*upstream, "a tunnel is open");
    let over = async {
        tokio::select! {
            _ = driver => {}
            () = entry.unwanted() => {}
        }
    };
    // Others are told while it is served already: one of them may be slow.
    tokio::join!(over, tell(&shared, &upstream));
    drop((entry, counted));
    tracing::info!(upstream = &*upstream, "a tunnel is closed");
    tell(&shared, &upstream).await;
}

async fn begin(arrival: Arrival) -> io::Result<(Tunnel, impl Future<Output = hyper::Result<()>> + Send)> {
    let socket = TcpStream::from_std(arrival.socket)?;
    let carrier = tunnel::websocket(socket, Role::Server, arrival.ahead.to_vec()).await;
    Tunnel::begin(carrier).await.map_err(io::Error::other)
}

/// Tells the other edges whether this one has a tunnel to an upstream.
async fn tell(shared: &Shared, upstream: &str) {
    let (edge, open) = (shared.peers.held().edge(), shared.tunnels.near.has(upstream));
    shared.peers.tell(event::tunnel_changed(upstream, edge, open, clock::now_us())).await;
}
