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
                    let snapshot = shared.current.load_full();
                    shared.tunnels.near.retain(|upstream| dials_in(&snapshot, upstream));
                    shared.tunnels.far.retain(
                        |upstream| dials_in(&snapshot, upstream),
                        |edge| snapshot.peers.contains_key(edge),
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

async fn keep(shared: Arc<Shared>, arrival: Arrival) {
    let upstream = Arc::clone(&arrival.upstream);
    let (tunnel, driver) = match begin(arrival).await {
        Ok(begun) => begun,
        Err(error) => return tracing::info!(%error, "cannot open a tunnel"),
    };
    let had = shared.tunnels.near.has(&upstream);
    let Ok(entry) = shared.tunnels.near.register(&upstream, tunnel) else {
        return tracing::warn!(upstream = &*upstream, "too many tunnels are open");
    };
    // It may have been deleted since the tunnel was let in.
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
    // Others are told while it is served already: one of them may be slow.
    let told = async {
        if !had {
            tell(&shared, &upstream).await;
        }
    };
    let (why, ()) = tokio::join!(over, told);
    drop((entry, counted));
    tracing::info!(upstream = &*upstream, why, "tunnel closed");
    if !shared.tunnels.near.has(&upstream) {
        tell(&shared, &upstream).await;
    }
}

async fn begin(arrival: Arrival) -> io::Result<(Tunnel, impl Future<Output = io::Error> + Send)> {
    let socket = TcpStream::from_std(arrival.socket)?;
    let carrier = tunnel::websocket(socket, Role::Server, arrival.ahead.to_vec()).await;
    Tunnel::start(carrier).await
}

/// Tells the other edges whether this one has a tunnel to an upstream.
async fn tell(shared: &Shared, upstream: &str) {
    let (edge, open) = (shared.peers.held().edge(), shared.tunnels.near.has(upstream));
    shared.peers.tell(event::tunnel_changed(upstream, edge, open, clock::now_us())).await;
}
