//! The connections of a listener, shared by its threads: who must close, and when. The rules are those of the
//! [table](crate::table).
//!
//! A request costs one relaxed load here. The lock is taken when a connection opens, when it authenticates and when it
//! ends.

use std::collections::HashMap;
use std::future::pending;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::table::{ConnectionId, ConnectionLimits, ConnectionTable, Eviction, Full, subscriber};

/// Requests that a connection may have in progress without having authenticated.
const MAX_PUBLIC_REQUESTS: usize = 16;

/// The reason that a connection was closed by this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// It did not authenticate in time.
    AuthenticationTimeout,
    /// It was the oldest that had not authenticated, and there were too many.
    Evicted,
    /// It was the oldest of its address that had not authenticated, and there were too many.
    TooManyFromAddress,
    /// It was new, and every other one had authenticated.
    Full,
}

impl CloseReason {
    /// All reasons.
    pub const ALL: [Self; 4] =
        [Self::AuthenticationTimeout, Self::Evicted, Self::TooManyFromAddress, Self::Full];

    /// The value of the label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthenticationTimeout => "authentication_timeout",
            Self::Evicted => "evicted",
            Self::TooManyFromAddress => "too_many_from_address",
            Self::Full => "full",
        }
    }
}

/// The connections of a listener. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    authentication_timeout: Option<Duration>,
    open: Mutex<Open>,
    closed: [AtomicU64; CloseReason::ALL.len()],
}

#[derive(Debug)]
struct Open {
    table: ConnectionTable,
    /// The states of those that have not authenticated, who may have to be told to close.
    strangers: HashMap<ConnectionId, Arc<State>>,
}

/// What the threads know of one connection.
#[derive(Debug, Default)]
struct State {
    /// 0 until it has authenticated or is told to close.
    stage: AtomicU8,
    changed: Notify,
    public_requests: AtomicUsize,
}

const AUTHENTICATED: u8 = 1;
const EVICTED: u8 = 2;
const TOO_MANY_FROM_ADDRESS: u8 = 3;

/// An open connection. It has its place until it is dropped.
#[derive(Debug)]
pub struct Connection {
    handle: ConnectionHandle,
    deadline: Option<Instant>,
}

/// A connection as the requests on it know it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConnectionHandle {
    shared: Arc<Shared>,
    state: Arc<State>,
    id: ConnectionId,
    address: IpAddr,
}

/// A request in progress on a connection that has not authenticated.
#[derive(Debug)]
pub struct PublicRequest(Option<Arc<State>>);

impl Connections {
    /// Creates the connections of a listener, of which there are none yet. One that has not authenticated after
    /// `authentication_timeout` is to close; `None` where nobody does.
    pub fn new(limits: ConnectionLimits, authentication_timeout: Option<Duration>) -> Self {
        let open = Open { table: ConnectionTable::new(limits), strangers: HashMap::new() };
        Self(Arc::new(Shared {
            authentication_timeout,
            open: Mutex::new(open),
            closed: std::array::from_fn(|_| AtomicU64::new(0)),
        }))
    }

    /// Takes a place for a connection from `address`, and tells another one to close where there is none left.
    ///
    /// # Errors
    /// If every other connection has authenticated; then the new one is to be closed.
    pub fn open(&self, address: IpAddr) -> Result<Connection, Full> {
        let mut open = self.0.open();
        let opened = open.table.open(address).inspect_err(|Full| self.0.count(CloseReason::Full))?;
        match opened.evicted {
            Some((oldest, Eviction::Oldest)) => self.0.evict(&mut open, oldest, EVICTED),
            Some((oldest, Eviction::Address)) => self.0.evict(&mut open, oldest, TOO_MANY_FROM_ADDRESS),
            None => {}
        }
        let state = Arc::<State>::default();
        open.strangers.insert(opened.id, Arc::clone(&state));
        let shared = Arc::clone(&self.0);
        let handle = ConnectionHandle { shared, state, id: opened.id, address: address.to_canonical() };
        let deadline = self.0.authentication_timeout.map(|timeout| Instant::now() + timeout);
        Ok(Connection { handle, deadline })
    }

    /// Tells the oldest connection that has not authenticated to close. Returns false if there is none.
    pub fn evict_oldest(&self) -> bool {
        let mut open = self.0.open();
        let oldest = open.table.evict_oldest();
        oldest.inspect(|oldest| self.0.evict(&mut open, *oldest, EVICTED)).is_some()
    }

    /// Counts the open connections that have authenticated.
    pub fn authenticated(&self) -> usize {
        self.0.open().table.authenticated()
    }

    /// Counts the open connections that have not authenticated.
    pub fn unauthenticated(&self) -> usize {
        self.0.open().table.unauthenticated()
    }

    /// Counts the connections that were closed for this reason.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.0.closed[reason as usize].load(Ordering::Relaxed)
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, reason: CloseReason) {
        self.closed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn evict(&self, open: &mut Open, id: ConnectionId, stage: u8) {
        let Some(state) = open.strangers.remove(&id) else { return };
        state.stage.store(stage, Ordering::Relaxed);
        state.changed.notify_one();
    }
}

impl Connection {
    /// The connection as the requests on it know it.
    pub fn handle(&self) -> &ConnectionHandle {
        &self.handle
    }

    /// Waits until this connection must close, which is never once it has authenticated. After
    /// [`AuthenticationTimeout`](CloseReason::AuthenticationTimeout) it may finish what it has begun; for the others it
    /// is dropped.
    pub async fn must_close(&self) -> CloseReason {
        let overdue = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => pending().await,
            }
        };
        let mut overdue = std::pin::pin!(overdue);
        loop {
            let reason = match self.handle.state.stage.load(Ordering::Relaxed) {
                AUTHENTICATED => return pending().await,
                EVICTED => Some(CloseReason::Evicted),
                TOO_MANY_FROM_ADDRESS => Some(CloseReason::TooManyFromAddress),
                _ => None,
            };
            let reason = match reason {
                Some(reason) => reason,
                None => tokio::select! {
                    biased;
                    () = self.handle.state.changed.notified() => continue,
                    () = overdue.as_mut() => CloseReason::AuthenticationTimeout,
                },
            };
            self.handle.shared.count(reason);
            return reason;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.handle.shared.open();
        open.table.close(self.handle.id);
        open.strangers.remove(&self.handle.id);
    }
}

impl ConnectionHandle {
    /// The address at the other end; an IPv4 client's is the same on a socket that takes both families.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The address that it counts for: of IPv6, the network of the subscriber.
    pub fn subscriber(&self) -> IpAddr {
        subscriber(self.address)
    }

    /// Returns whether a request on it has been authenticated.
    pub fn is_authenticated(&self) -> bool {
        self.state.stage.load(Ordering::Relaxed) == AUTHENTICATED
    }

    /// Notes that a request on it has been authenticated: from now on it is not closed for others.
    pub fn set_authenticated(&self) {
        if self.is_authenticated() {
            return;
        }
        let mut open = self.shared.open();
        if open.table.authenticate(self.id) {
            open.strangers.remove(&self.id);
            self.state.stage.store(AUTHENTICATED, Ordering::Relaxed);
            self.state.changed.notify_one();
        }
    }

    /// Admits a request that needs no credential. One connection may have 16 of them until it authenticates; then `None`.
    pub fn public_request(&self) -> Option<PublicRequest> {
        if self.is_authenticated() {
            return Some(PublicRequest(None));
        }
        let before = self.state.public_requests.fetch_add(1, Ordering::Relaxed);
        let request = PublicRequest(Some(Arc::clone(&self.state)));
        (before < MAX_PUBLIC_REQUESTS).then_some(request)
    }
}

impl Drop for PublicRequest {
    fn drop(&mut self) {
        if let Some(state) = &self.0 {
            state.public_requests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::FutureExt as _;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const TIMEOUT: Duration = Duration::from_secs(10);

    fn connections(max: usize) -> Connections {
        Connections::new(ConnectionLimits::authenticated(max, max, Vec::new()), Some(TIMEOUT))
    }

    fn counts(connections: &Connections) -> [u64; CloseReason::ALL.len()] {
        CloseReason::ALL.map(|reason| connections.closed(reason))
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_authenticate_in_time_must_close() {
        let connections = connections(10);
        let (late, known) = (connections.open(HERE).unwrap(), connections.open(HERE).unwrap());
        let started = Instant::now();
        let authenticates = async {
            tokio::time::sleep(TIMEOUT / 2).await;
            known.handle().set_authenticated();
        };
        let (reason, ()) = tokio::join!(late.must_close(), authenticates);
        assert_eq!((reason, started.elapsed()), (CloseReason::AuthenticationTimeout, TIMEOUT));
        tokio::time::sleep(10 * TIMEOUT).await;
        assert_eq!(known.must_close().now_or_never(), None);
        assert_eq!(counts(&connections), [1, 0, 0, 0]);
        assert_eq!((connections.authenticated(), connections.unauthenticated()), (1, 1));
        drop((late, known));
        assert_eq!((connections.authenticated(), connections.unauthenticated()), (0, 0));
    }

    #[tokio::test]
    async fn the_evicted_one_is_told_and_cannot_authenticate_any_more() {
        let connections = connections(4);
        let open: Vec<_> = (0..4).map(|_| connections.open(HERE).unwrap()).collect();
        assert_eq!(open[0].must_close().await, CloseReason::Evicted);
        open[0].handle().set_authenticated();
        assert!(!open[0].handle().is_authenticated());
        open[1].handle().set_authenticated();
        assert!(connections.evict_oldest());
        assert_eq!(open[2].must_close().await, CloseReason::Evicted);
        assert_eq!(open[1].must_close().now_or_never(), None);
        assert_eq!(counts(&connections), [0, 2, 0, 0]);
    }

    #[tokio::test]
    async fn a_full_house_of_known_callers_refuses_strangers_and_says_so() {
        let connections = connections(2);
        let mut known = Vec::new();
        for _ in 0..2 {
            let connection = connections.open(HERE).unwrap();
            connection.handle().set_authenticated();
            known.push(connection);
        }
        assert!(!connections.evict_oldest());
        assert_eq!(connections.open(HERE).unwrap_err(), Full);
        assert_eq!(counts(&connections), [0, 0, 0, 1]);
        known.pop();
        assert!(connections.open(HERE).is_ok());
    }

    #[test]
    fn strangers_have_few_requests_in_progress_and_known_callers_any_number() {
        let connections = connections(2);
        let connection = connections.open(HERE).unwrap();
        let handle = connection.handle();
        let mut requests: Vec<_> =
            (0..MAX_PUBLIC_REQUESTS).map(|_| handle.public_request().unwrap()).collect();
        assert!(handle.public_request().is_none());
        assert!(handle.public_request().is_none());
        requests.pop();
        requests.push(handle.public_request().unwrap());
        handle.set_authenticated();
        requests.extend(handle.public_request());
        requests.extend(handle.public_request());
        assert_eq!(requests.len(), MAX_PUBLIC_REQUESTS + 2);
    }
}
