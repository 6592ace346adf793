//! Upstreams that dial in: their tunnels to this edge, which other edges have some, and a way through either.
//!
//! It must not know what goes through them. What is held here is served on a thread of its own, so that it outlives the worker
//! that a tunnel happened to arrive at.

pub mod door;
mod far;
mod keep;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use trunkline::edge::v1::TunnelChanged;

use self::far::Far;
use self::keep::Arrival;
use crate::clock;
use crate::error::Fault;
use crate::peers::{Peers, Unreached};

/// Tunnels that have been let in and are not served yet.
const MAX_ARRIVING: usize = 256;

/// The ways to upstreams that dial in, each known by its uid.
pub struct Tunnels {
    near: Arc<tunnel::Tunnels>,
    far: Far,
    arrivals: mpsc::Sender<Arrival>,
    arriving: Mutex<Option<mpsc::Receiver<Arrival>>>,
}

/// A connection within a tunnel, here or at another edge.
pub enum Connection {
    /// Of a tunnel to this edge.
    Near(tunnel::Stream),
    /// Through another edge.
    Far(crate::peers::Reached),
}

impl Default for Tunnels {
    fn default() -> Self {
        let (arrivals, arriving) = mpsc::channel(MAX_ARRIVING);
        Self { near: Arc::default(), far: Far::default(), arrivals, arriving: Mutex::new(Some(arriving)) }
    }
}

impl Tunnels {
    /// Opens a connection to an upstream. Where no tunnel is open, waits for one: those that broke are mostly back in a moment.
    /// The caller bounds the waiting.
    pub async fn connect(&self, peers: &Peers, upstream: &str) -> Result<Connection, Fault> {
        let (mut near, mut far) = (self.near.changes(), self.far.changes());
        loop {
            near.borrow_and_update();
            far.borrow_and_update();
            if let Ok(stream) = self.near.open(upstream).await {
                return Ok(Connection::Near(stream));
            }
            if let Some(reached) = self.through_others(peers, upstream).await {
                return Ok(Connection::Far(reached));
            }
            tokio::select! {
                _ = near.changed() => {}
                _ = far.changed() => {}
            }
        }
    }

    async fn through_others(&self, peers: &Peers, upstream: &str) -> Option<crate::peers::Reached> {
        for edge in self.far.edges(upstream) {
            match peers.reach(&edge, upstream).await {
                Ok(reached) => return Some(reached),
                Err(Unreached::Closed) => self.far.mistaken(upstream, &edge),
                // It may be back at once, and is asked again.
                Err(Unreached::Away) => {}
            }
        }
        None
    }

    /// Opens a connection through a tunnel to this edge, for another edge.
    ///
    /// # Errors
    /// When there is no tunnel here that works.
    pub async fn open_here(&self, upstream: &str) -> io::Result<tunnel::Stream> {
        self.near.open(upstream).await
    }

    /// Notes what an edge says of its tunnels.
    pub fn heard(&self, said: TunnelChanged) {
        self.far.heard(said);
    }

    /// Such events as lead to what this edge knows, of the edge `mine` as well.
    pub fn all(&self, mine: &str) -> Vec<TunnelChanged> {
        let (said_us, mut all) = (clock::now_us(), self.far.all());
        all.retain(|said| said.edge != mine);
        all.extend(self.near.keys().into_iter().map(|upstream| TunnelChanged {
            upstream: upstream.into(),
            edge: mine.to_owned(),
            open: true,
            said_us,
        }));
        all
    }

    fn take_arriving(&self) -> Option<mpsc::Receiver<Arrival>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl std::fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnels").field("near", &self.near).finish_non_exhaustive()
    }
}
