//! The connections of a listener, shared by its threads: who must close, and when. The rules are those of the
//! [table](crate::table).
//!
//! A request costs a load here, and counting it while it is in progress. The lock is taken when a connection opens, when it
//! authenticates and when it ends.

use std::collections::HashMap;
use std::future::pending;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::table::{
    Authenticated, ConnectionId, ConnectionLimits, ConnectionTable, Eviction, Full, HolderId, subscriber,
};

/// Requests that a connection may have in progress without having authenticated.
const MAX_PUBLIC_REQUESTS: usize = 4;

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
    /// Whoever authenticated it has too many, and it had no request in progress, or was the newest.
    TooManyOfHolder,
}

impl CloseReason {
    /// All reasons.
    pub const ALL: [Self; 5] = [
        Self::AuthenticationTimeout,
        Self::Evicted,
        Self::TooManyFromAddress,
        Self::Full,
        Self::TooManyOfHolder,
    ];

    /// The value of the label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthenticationTimeout => "authentication_timeout",
            Self::Evicted => "evicted",
            Self::TooManyFromAddress => "too_many_from_address",
            Self::Full => "full",
            Self::TooManyOfHolder => "too_many_of_holder",
        }
    }

    /// Returns whether the connection may finish what it has begun. For the other reasons it is dropped.
    pub fn may_finish(self) -> bool {
        matches!(self, Self::AuthenticationTimeout | Self::TooManyOfHolder)
    }
}

/// Who has authenticated on a connection, as the listener knows it; only a hash of it is kept.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionHolder<T> {
    who: T,
    is_kept: bool,
}

impl<T: Hash> ConnectionHolder<T> {
    /// Creates one who may hold as many connections as others leave.
    pub fn new(who: T) -> Self {
        Self { who, is_kept: false }
    }

    /// Creates one for whom some connections are kept, whatever others hold.
    pub fn kept(who: T) -> Self {
        Self { who, is_kept: true }
    }
}

/// The caller holds as many connections as it may, and each of them has requests in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this credential holds too many connections; close some, or send the request on one of them")]
pub struct TooManyConnections;

/// The connections of a listener. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    authentication_timeout: Option<Duration>,
    open: Mutex<Open>,
    closed: [AtomicU64; CloseReason::ALL.len()],
    hasher: RandomState,
}

#[derive(Debug)]
struct Open {
    table: ConnectionTable,
    /// The states of those in the table, who may have to be told to close.
    states: HashMap<ConnectionId, Arc<State>>,
}

/// What the threads know of one connection.
#[derive(Debug, Default)]
struct State {
    /// 0 until it has authenticated or is told to close.
    stage: AtomicU8,
    changed: Notify,
    public_requests: AtomicUsize,
    /// All requests in progress.
    requests: AtomicUsize,
}

const AUTHENTICATED: u8 = 1;
const EVICTED: u8 = 2;
const TOO_MANY_FROM_ADDRESS: u8 = 3;
const TOO_MANY_OF_HOLDER: u8 = 4;

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

/// A request in progress, until this is dropped: the connection is not closed for another of its holder.
#[derive(Debug)]
pub struct RequestInProgress(Arc<State>);

impl Connections {
    /// Creates the connections of a listener, of which there are none yet. One that has not authenticated after
    /// `authentication_timeout` is to close; `None` where nobody does.
    pub fn new(limits: ConnectionLimits, authentication_timeout: Option<Duration>) -> Self {
        let open = Open { table: ConnectionTable::new(limits), states: HashMap::new() };
        Self(Arc::new(Shared {
            authentication_timeout,
            open: Mutex::new(open),
            closed: std::array::from_fn(|_| AtomicU64::new(0)),
            hasher: RandomState::new(),
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
        open.states.insert(opened.id, Arc::clone(&state));
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
        if let Some(state) = open.states.remove(&id) {
            state.set(stage);
        }
    }
}

impl State {
    fn set(&self, stage: u8) {
        self.stage.store(stage, Ordering::Relaxed);
        self.changed.notify_one();
    }

    fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }
}

impl Connection {
    /// The connection as the requests on it know it.
    pub fn handle(&self) -> &ConnectionHandle {
        &self.handle
    }

    /// Waits until this connection must close. One that has authenticated does only for a newer one of its holder.
    pub async fn must_close(&self) -> CloseReason {
        let overdue = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => pending().await,
            }
        };
        let mut overdue = std::pin::pin!(overdue);
        loop {
            let stage = self.handle.state.stage.load(Ordering::Relaxed);
            let reason = match stage {
                EVICTED => Some(CloseReason::Evicted),
                TOO_MANY_FROM_ADDRESS => Some(CloseReason::TooManyFromAddress),
                TOO_MANY_OF_HOLDER => Some(CloseReason::TooManyOfHolder),
                _ => None,
            };
            let reason = match reason {
                Some(reason) => reason,
                None => tokio::select! {
                    biased;
                    () = self.handle.state.changed.notified() => continue,
                    () = overdue.as_mut(), if stage != AUTHENTICATED => CloseReason::AuthenticationTimeout,
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
        open.states.remove(&self.handle.id);
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

    /// Notes that `holder` has been authenticated on it: from now on it is closed for no other. A connection counts for who
    /// authenticates on it first; what comes through a balancer counts for nobody.
    ///
    /// # Errors
    /// If the holder has as many as it may, and requests in progress on those. The request is to be refused; the connection
    /// is told to close.
    pub fn set_authenticated(&self, holder: ConnectionHolder<impl Hash>) -> Result<(), TooManyConnections> {
        match self.state.stage.load(Ordering::Relaxed) {
            AUTHENTICATED => Ok(()),
            TOO_MANY_OF_HOLDER => Err(TooManyConnections),
            _ => self.authenticate(&holder),
        }
    }

    fn authenticate(&self, holder: &ConnectionHolder<impl Hash>) -> Result<(), TooManyConnections> {
        let holder = HolderId { hash: self.shared.hasher.hash_one(&holder.who), is_kept: holder.is_kept };
        let mut open = self.shared.open();
        let Open { table, states } = &mut *open;
        let is_idle = |id| states.get(&id).is_some_and(|state| state.is_idle());
        match table.authenticate(self.id, holder, is_idle) {
            Authenticated::Placed(evicted) => {
                if let Some(evicted) = evicted {
                    self.shared.evict(&mut open, evicted, TOO_MANY_OF_HOLDER);
                }
                self.state.set(AUTHENTICATED);
            }
            Authenticated::Refused => {
                self.shared.evict(&mut open, self.id, TOO_MANY_OF_HOLDER);
                return Err(TooManyConnections);
            }
            Authenticated::Unchanged => {}
        }
        Ok(())
    }

    /// Counts a request that has begun.
    pub fn begin_request(&self) -> RequestInProgress {
        self.state.requests.fetch_add(1, Ordering::Relaxed);
        RequestInProgress(Arc::clone(&self.state))
    }

    /// Admits a request that needs no credential, until its response has been sent. One connection may have 4 of them until it
    /// authenticates; past that `None`.
    pub fn public_request(&self) -> Option<PublicRequest> {
        if self.is_authenticated() {
            return Some(PublicRequest(None));
        }
        let before = self.state.public_requests.fetch_add(1, Ordering::Relaxed);
        let request = PublicRequest(Some(Arc::clone(&self.state)));
        (before < MAX_PUBLIC_REQUESTS).then_some(request)
    }
}

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
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

    /// Whoever may have every connection.
    const KNOWN: ConnectionHolder<u8> = ConnectionHolder { who: 0, is_kept: true };

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
            known.handle().set_authenticated(KNOWN).unwrap();
        };
        let (reason, ()) = tokio::join!(late.must_close(), authenticates);
        assert_eq!((reason, started.elapsed()), (CloseReason::AuthenticationTimeout, TIMEOUT));
        tokio::time::sleep(10 * TIMEOUT).await;
        assert_eq!(known.must_close().now_or_never(), None);
        assert_eq!(counts(&connections), [1, 0, 0, 0, 0]);
        assert_eq!((connections.authenticated(), connections.unauthenticated()), (1, 1));
        drop((late, known));
        assert_eq!((connections.authenticated(), connections.unauthenticated()), (0, 0));
    }

    #[tokio::test]
    async fn the_evicted_one_is_told_and_cannot_authenticate_any_more() {
        let connections = connections(4);
        let open: Vec<_> = (0..4).map(|_| connections.open(HERE).unwrap()).collect();
        assert_eq!(open[0].must_close().await, CloseReason::Evicted);
        open[0].handle().set_authenticated(KNOWN).unwrap();
        assert!(!open[0].handle().is_authenticated());
        open[1].handle().set_authenticated(KNOWN).unwrap();
        assert!(connections.evict_oldest());
        assert_eq!(open[2].must_close().await, CloseReason::Evicted);
        assert_eq!(open[1].must_close().now_or_never(), None);
        assert_eq!(counts(&connections), [0, 2, 0, 0, 0]);
    }

    #[tokio::test]
    async fn a_full_house_of_known_callers_refuses_strangers_and_says_so() {
        let connections = connections(2);
        let mut known = Vec::new();
        for _ in 0..2 {
            let connection = connections.open(HERE).unwrap();
            connection.handle().set_authenticated(KNOWN).unwrap();
            known.push(connection);
        }
        assert!(!connections.evict_oldest());
        assert_eq!(connections.open(HERE).unwrap_err(), Full);
        assert_eq!(counts(&connections), [0, 0, 0, 1, 0]);
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
        handle.set_authenticated(KNOWN).unwrap();
        requests.extend(handle.public_request());
        requests.extend(handle.public_request());
        assert_eq!(requests.len(), MAX_PUBLIC_REQUESTS + 2);
    }

    #[tokio::test]
    async fn past_its_share_a_holder_loses_an_idle_connection_or_gets_no_more() {
        let connections = connections(6);
        let open = |who: u8| {
            let connection = connections.open(HERE).unwrap();
            let result = connection.handle().set_authenticated(ConnectionHolder::new(who));
            (connection, result)
        };
        let ours: Vec<_> = (0..3).map(|_| open(1)).collect();
        assert!(ours.iter().all(|(_, result)| result.is_ok()));
        let _other = open(2).0;
        let [first, second, _] = &ours[..] else { unreachable!() };
        let call = first.0.handle().begin_request();
        // The oldest has a request in progress; the next one makes room, and may finish what it says.
        let (newest, result) = open(1);
        assert_eq!(result, Ok(()));
        let reason = second.0.must_close().await;
        assert_eq!((reason, reason.may_finish()), (CloseReason::TooManyOfHolder, true));
        assert_eq!(second.0.handle().set_authenticated(ConnectionHolder::new(1)), Err(TooManyConnections));
        // When all are in use, a new one is refused, and the others go on.
        let calls = [ours[2].0.handle().begin_request(), newest.handle().begin_request()];
        let (refused, result) = open(1);
        assert_eq!(result, Err(TooManyConnections));
        assert_eq!(refused.must_close().await, CloseReason::TooManyOfHolder);
        for stays in [&first.0, &ours[2].0, &newest] {
            assert_eq!(stays.must_close().now_or_never(), None);
        }
        assert_eq!(counts(&connections), [0, 0, 0, 0, 2]);
        // A call that has ended makes room again.
        drop((call, calls));
        assert_eq!(open(1).1, Ok(()));
        assert_eq!(first.0.must_close().now_or_never(), None, "the one after the last that went is next");
    }
}
