//! Upstreams that dial in: their tunnels to this edge and to siblings, and connections through either.
//!
//! It must not know what goes through a tunnel. Tunnels to this edge are served on a thread of their own, so that they
//! outlive the worker that accepted them.

pub mod accept;
mod remote;
mod serve;

pub use self::serve::TunnelServer;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use trunkline::edge::v1::TunnelChanged;

use self::remote::RemoteTunnels;
use self::serve::AcceptedTunnel;
use crate::error::Fault;
use crate::fleet::{Fleet, SiblingError, SiblingStream};
use crate::os::clock;

/// The pause before a sibling that could not be reached is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// Tunnels that were accepted and are not served yet.
const MAX_ACCEPTED: usize = 256;

/// The tunnels of upstreams that dial in, by the upstream's uid.
pub struct Tunnels {
    local: Arc<tunnel::Tunnels>,
    remote: RemoteTunnels,
    accepted: mpsc::Sender<AcceptedTunnel>,
    to_serve: Mutex<Option<mpsc::Receiver<AcceptedTunnel>>>,
    /// Set once this edge is stopping: its tunnels serve what goes through them, and nothing new of siblings.
    draining: CancellationToken,
}

/// A connection through a tunnel of this edge or of a sibling.
pub enum TunnelStream {
    /// Through a tunnel to this edge.
    Local(tunnel::Stream),
    /// Through a sibling, until it says that its tunnel ends: what is idle then is closed, so that the sibling can stop.
    Remote(SiblingStream, CancellationToken),
}

impl Default for Tunnels {
    fn default() -> Self {
        let (accepted, to_serve) = mpsc::channel(MAX_ACCEPTED);
        Self {
            local: Arc::default(),
            remote: RemoteTunnels::default(),
            accepted,
            to_serve: Mutex::new(Some(to_serve)),
            draining: CancellationToken::new(),
        }
    }
}

impl Tunnels {
    /// Opens a connection to an upstream. Without a tunnel it waits for one, because a broken one is mostly back in a
    /// moment. The caller bounds the waiting.
    pub async fn connect(&self, fleet: &Fleet, upstream: &str) -> Result<TunnelStream, Fault> {
        let (mut local, mut remote) = (self.local.changes(), self.remote.changes());
        loop {
            local.borrow_and_update();
            remote.borrow_and_update();
            if let Ok(stream) = self.local.open(upstream).await {
                return Ok(TunnelStream::Local(stream));
            }
            let retry = match self.through_siblings(fleet, upstream).await {
                Ok((reached, retired)) => return Ok(TunnelStream::Remote(reached, retired)),
                Err(unreached) => unreached == SiblingError::Unreachable || self.local.has(upstream),
            };
            tokio::select! {
                _ = local.changed() => {}
                _ = remote.changed() => {}
                // A sibling with a tunnel may have been unreachable for a moment only.
                () = tokio::time::sleep(RETRY_AFTER), if retry => {}
            }
        }
    }

    async fn through_siblings(
        &self,
        fleet: &Fleet,
        upstream: &str,
    ) -> Result<(SiblingStream, CancellationToken), SiblingError> {
        let mut outcome = SiblingError::NoTunnel;
        for holder in self.remote.holders(upstream) {
            match fleet.open_tunnel_stream(&holder.edge, upstream).await {
                Ok(reached) => return Ok((reached, holder.retired)),
                Err(SiblingError::NoTunnel) => self.remote.mark_closed(upstream, &holder),
                Err(SiblingError::Unreachable) => outcome = SiblingError::Unreachable,
            }
        }
        Err(outcome)
    }

    /// Opens a connection through a tunnel to this edge, for a sibling.
    ///
    /// # Errors
    /// If no tunnel here works, or this edge is stopping.
    pub async fn open_here(&self, upstream: &str) -> io::Result<tunnel::Stream> {
        if self.draining.is_cancelled() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.local.open(upstream).await
    }

    /// Returns whether there is a tunnel to this edge for siblings to use, working or not.
    pub fn is_here(&self, upstream: &str) -> bool {
        !self.draining.is_cancelled() && self.local.has(upstream)
    }

    /// Begins to hand over: the upstreams are told to dial other edges, and the siblings to go elsewhere. What goes through the
    /// tunnels goes on until they are closed.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Changes whenever a sibling reports a tunnel.
    pub fn reports(&self) -> watch::Receiver<()> {
        self.remote.changes()
    }

    /// Applies the state of a tunnel that a sibling sent.
    pub fn tunnel_changed(&self, state: TunnelChanged) {
        self.remote.apply(state);
    }

    /// Returns the state of all known tunnels, those to this edge, `own_id`, included.
    pub fn all(&self, own_id: &str) -> Vec<TunnelChanged> {
        let (changed_us, mut all) = (clock::now_us(), self.remote.all());
        all.retain(|state| state.edge != own_id);
        let here = if self.draining.is_cancelled() { Vec::new() } else { self.local.keys() };
        all.extend(here.into_iter().map(|upstream| TunnelChanged {
            upstream: upstream.into(),
            edge: own_id.to_owned(),
            open: true,
            changed_us,
        }));
        all
    }

    fn take_accepted(&self) -> Option<mpsc::Receiver<AcceptedTunnel>> {
        self.to_serve.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl std::fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnels").field("local", &self.local).finish_non_exhaustive()
    }
}
