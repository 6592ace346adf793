//! Upstreams that dial in: their tunnels to this edge, which other edges have some, and a way through either.
//!
//! It must not know what goes through them. What is held here is served on a thread of its own, so that it outlives the worker
//! that a tunnel happened to arrive at.

pub mod door;
mod far;
mod keep;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use trunkline::edge::v1::TunnelChanged;

use self::far::Far;
use self::keep::Arrival;
use crate::clock;
use crate::error::Fault;
use crate::peers::{Peers, Reached, Unreached};

/// How long until an edge that could not be reached is tried again.
const AGAIN: Duration = Duration::from_millis(250);
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
    Far(Reached),
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
            let again = match self.through_others(peers, upstream).await {
                Ok(reached) => return Ok(Connection::Far(reached)),
                Err(unreached) => unreached == Unreached::Away || self.near.has(upstream),
            };
            tokio::select! {
                _ = near.changed() => {}
                _ = far.changed() => {}
                // Whoever has one may only have been away for a moment.
                () = tokio::time::sleep(AGAIN), if again => {}
            }
        }
    }

    async fn through_others(&self, peers: &Peers, upstream: &str) -> Result<Reached, Unreached> {
        let mut outcome = Unreached::Closed;
        for holder in self.far.holders(upstream) {
            match peers.reach(&holder.edge, upstream).await {
                Ok(reached) => return Ok(reached),
                Err(Unreached::Closed) => self.far.mistaken(upstream, &holder),
                Err(Unreached::Away) => outcome = Unreached::Away,
            }
        }
        Err(outcome)
    }

    /// Opens a connection through a tunnel to this edge, for another edge.
    ///
    /// # Errors
    /// When there is no tunnel here that works.
    pub async fn open_here(&self, upstream: &str) -> io::Result<tunnel::Stream> {
        self.near.open(upstream).await
    }

    /// Whether there is a tunnel to this edge, working or not.
    pub fn is_here(&self, upstream: &str) -> bool {
        self.near.has(upstream)
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
