//! The tunnels that a process holds, by the key of the far side. It must not know what the keys mean.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{Stream, Tunnel};

/// Tunnels to one far side: enough for dead ones that are not noticed yet, too.
const MAX_PER_KEY: usize = 16;
const MAX_TUNNELS: usize = 4_096;
/// Longest wait for one tunnel to open a stream, where there may be another.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);

/// All tunnels that one process holds.
#[derive(Debug)]
pub struct Tunnels {
    open: Mutex<HashMap<Box<str>, Vec<OpenTunnel>>>,
    next: AtomicU64,
    floods: AtomicU64,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct OpenTunnel {
    number: u64,
    tunnel: Tunnel,
    close: CancellationToken,
}

/// The registration of a tunnel, until it is dropped.
#[derive(Debug)]
pub struct Registration {
    tunnels: Arc<Tunnels>,
    key: Box<str>,
    number: u64,
    close: CancellationToken,
}

/// No further tunnel can be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Default for Tunnels {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            next: AtomicU64::new(0),
            floods: AtomicU64::new(0),
            changed: watch::Sender::new(()),
        }
    }
}

impl Tunnels {
    /// Whether one more tunnel of this key can be registered.
    #[must_use]
    pub fn has_room(&self, key: &str) -> bool {
        Self::fits(&self.lock(), key)
    }

    /// Registers a tunnel.
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

    /// Opens a stream to the far side of this key, through the youngest tunnel that opens one: any of them may be dead
    /// and not noticed yet.
    ///
    /// # Errors `NotConnected` where there is no tunnel; else the error of the last one.
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

    /// Whether there is a tunnel of this key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.lock().contains_key(key)
    }

    /// Returns the keys of all tunnels.
    #[must_use]
    pub fn keys(&self) -> Vec<Box<str>> {
        self.lock().keys().cloned().collect()
    }

    /// Returns the number of tunnels.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Returns how many tunnels ended because their far side sent too many frames without data.
    #[must_use]
    pub fn floods(&self) -> u64 {
        self.floods.load(Ordering::Relaxed)
    }

    /// Ends all tunnels whose keys `keep` rejects.
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
    /// Waits until the tunnel is to be closed.
    pub async fn close_requested(&self) {
        self.close.cancelled().await;
    }

    /// Counts the end of the tunnel, which its driver resolved to; whether the far side sent too many frames without
    /// data.
    pub fn ended(&self, error: &io::Error) -> bool {
        let flood = error.kind() == io::ErrorKind::QuotaExceeded;
        self.tunnels.floods.fetch_add(u64::from(flood), Ordering::Relaxed);
        flood
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
