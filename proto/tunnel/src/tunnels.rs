//! The tunnels that a process holds, by whom they lead to. It must not know what the keys mean.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{Stream, Tunnel};

/// Tunnels to one far side: enough for those that are about to be noticed as dead, too.
const MAX_PER_KEY: usize = 16;
/// Tunnels altogether.
const MAX_TUNNELS: usize = 4_096;
/// How long one tunnel may take to open a stream, where there may be another.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);

/// All tunnels that one process holds.
#[derive(Debug)]
pub struct Tunnels {
    open: Mutex<HashMap<Box<str>, Vec<OpenTunnel>>>,
    next: AtomicU64,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct OpenTunnel {
    number: u64,
    tunnel: Tunnel,
    close: CancellationToken,
}

/// A tunnel's place, until it is dropped.
#[derive(Debug)]
pub struct Registration {
    tunnels: Arc<Tunnels>,
    key: Box<str>,
    number: u64,
    close: CancellationToken,
}

/// There is no place for another tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Default for Tunnels {
    fn default() -> Self {
        Self { open: Mutex::default(), next: AtomicU64::new(0), changed: watch::Sender::new(()) }
    }
}

impl Tunnels {
    /// Whether there is a place for one more tunnel to whom `key` names.
    #[must_use]
    pub fn has_room(&self, key: &str) -> bool {
        Self::fits(&self.lock(), key)
    }

    /// Gives a tunnel a place.
    ///
    /// # Errors
    /// When there are too many.
    pub fn register(self: &Arc<Self>, key: &str, tunnel: Tunnel) -> Result<Registration, Full> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let close = CancellationToken::new();
        let mut open = self.lock();
        if !Self::fits(&open, key) {
            return Err(Full);
        }
        open.entry(key.into()).or_default().push(OpenTunnel { number, tunnel, close: close.clone() });
        drop(open);
        self.changed.send_replace(());
        Ok(Registration { tunnels: Arc::clone(self), key: key.into(), number, close })
    }

    /// Opens a stream to whom `key` names, through the youngest tunnel that lets it: any of them may be dead and not be noticed yet.
    ///
    /// # Errors
    /// `NotConnected` where there is no tunnel; else what the last one said.
    pub async fn open(&self, key: &str) -> io::Result<Stream> {
        let mut refused = io::Error::from(io::ErrorKind::NotConnected);
        for tunnel in self.to(key) {
            match timeout(OPEN_TIMEOUT, tunnel.open()).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => refused = error,
                Err(_) => refused = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(refused)
    }

    /// Whether any tunnel leads there.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.lock().contains_key(key)
    }

    /// Where tunnels lead.
    #[must_use]
    pub fn keys(&self) -> Vec<Box<str>> {
        self.lock().keys().cloned().collect()
    }

    /// How many tunnels there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Ends all tunnels that `keep` does not say to keep.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        let open = self.lock();
        let closing = open.iter().filter(|(key, _)| !keep(key));
        closing.flat_map(|(_, registered)| registered).for_each(|registered| registered.close.cancel());
    }

    /// Changes whenever a tunnel comes or goes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn to(&self, key: &str) -> Vec<Tunnel> {
        let open = self.lock();
        let registered = open.get(key).map(Vec::as_slice).unwrap_or_default();
        registered
            .iter()
            .rev()
            .map(|registered| registered.tunnel.clone())
            .filter(|tunnel| !tunnel.is_ended())
            .collect()
    }

    fn fits(open: &HashMap<Box<str>, Vec<OpenTunnel>>, key: &str) -> bool {
        open.get(key).is_none_or(|registered| registered.len() < MAX_PER_KEY)
            && open.values().map(Vec::len).sum::<usize>() < MAX_TUNNELS
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Vec<OpenTunnel>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// Waits until somebody wants the tunnel to end.
    pub async fn close_requested(&self) {
        self.close.cancelled().await;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut open = self.tunnels.lock();
        if let Some(registered) = open.get_mut(&self.key) {
            registered.retain(|registered| registered.number != self.number);
            if registered.is_empty() {
                open.remove(&self.key);
            }
        }
        drop(open);
        self.tunnels.changed.send_replace(());
    }
}
