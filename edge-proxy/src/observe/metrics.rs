//! The numbers of an edge, as atomics that cost a call next to nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use trunkline::telemetry::v1::UsageOutcome as Outcome;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default, Clone)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, until what is returned is dropped.
    pub fn enter(&self) -> Entered {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(Arc::clone(&self.0))
    }

    /// The same, unless there are `limit` already.
    pub fn enter_below(&self, limit: usize) -> Option<Entered> {
        let entered = self.enter();
        (usize::try_from(self.get()).unwrap_or_default() <= limit).then_some(entered)
    }
}

/// One that a gauge counts; dropping it takes it off again.
#[derive(Debug)]
pub struct Entered(Arc<AtomicI64>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The value of the label in metrics.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $label,)+ }
            }
        }
    };
}

labels! {
    /// Why a request was turned away before it led anywhere.
    Rejection {
        /// No bearer, or one that is not believed.
        Unauthenticated = "unauthenticated",
        /// The path leads to no server that the caller may see.
        UnknownPath = "unknown_path",
        /// The session is not known, or not the caller's.
        UnknownSession = "unknown_session",
        /// `Host` or `Origin` is not allowed.
        Origin = "origin",
        /// The method, content type or accepted types do not fit.
        Unacceptable = "unacceptable",
        /// The message could not be read, or breaks the protocol.
        Malformed = "malformed",
        /// The body is too large.
        BodyTooLarge = "body_too_large",
        /// The headers are too large.
        HeadersTooLarge = "headers_too_large",
        /// The request did not arrive in time.
        Slow = "slow",
        /// The caller has too much in flight.
        TooMany = "too_many",
        /// The edge has too much in flight.
        Overloaded = "overloaded",
        /// The edge is stopping.
        Draining = "draining",
    }
}

labels! {
    /// What became of something that was brought to another edge.
    PeerDelivery {
        /// Its holder has it.
        Delivered = "delivered",
        /// Nobody holds the place any more, or the edge is gone.
        Gone = "gone",
        /// Its holder does not keep up.
        Full = "full",
        /// The edge did not answer.
        Unreachable = "unreachable",
    }
}

labels! {
    /// How an upstream failed a call.
    UpstreamFault {
        /// No connection.
        Connect = "connect",
        /// No answer in time.
        Timeout = "timeout",
        /// An HTTP status that says so.
        Status = "status",
        /// An answer that is not what the protocol demands.
        Malformed = "malformed",
        /// An answer or event larger than allowed.
        TooLarge = "too_large",
        /// The answer broke off.
        Interrupted = "interrupted",
        /// Its session ended and could not be opened anew.
        Session = "session",
        /// A call that waited for its client could not be gone on with.
        Lost = "lost",
    }
}

labels! {
    /// A transport whose session is its connection.
    Transport {
        /// HTTP+SSE.
        Sse = "sse",
        /// WebSocket.
        WebSocket = "websocket",
    }
}

labels! {
    /// Why such a connection ended.
    Ending {
        /// The client went.
        Client = "client",
        /// The edge is stopping.
        Drain = "drain",
        /// The token was revoked, has expired, or no longer has the server.
        Unauthorized = "unauthorized",
        /// The client did not read.
        NotReading = "not_reading",
        /// Nothing was heard of the client.
        Silent = "silent",
        /// A frame that is not text.
        Binary = "binary",
        /// A message that is too large.
        TooLarge = "too_large",
        /// What is not WebSocket.
        Malformed = "malformed",
        /// Text that is not UTF-8.
        Encoding = "encoding",
    }
}

/// The numbers of an edge.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Client connections that are open.
    pub connections: Gauge,
    /// Streams to clients that are open (GET streams and SSE answers).
    pub streams: Gauge,
    /// Calls in flight.
    pub in_flight: Gauge,
    /// Upstream sessions that are held open.
    pub upstream_sessions: Gauge,
    /// Calls that wait for client input.
    pub parked_calls: Gauge,
    /// The registry revision in force.
    pub revision: Gauge,
    /// 1 while the stream from a control plane is open.
    pub stream_connected: Gauge,
    /// Resources whose newest version is refused.
    pub refused: Gauge,
    /// The registry revision of the copy on disk; 0 for none by this run.
    pub disk_revision: Gauge,
    /// 1 while what is in force is not on disk yet.
    pub disk_behind: Gauge,
    /// When the copy on disk was written, in seconds since the Unix epoch; 0 for not by this run.
    pub disk_saved_at: Gauge,
    /// Usage records that wait to be acknowledged.
    pub usage_backlog: Gauge,
    /// Calls that were counted under `other`, because there were too many keys.
    pub usage_overflow: Counter,
    client_sessions: [Gauge; Transport::ALL.len()],
    client_sessions_ended: [[Counter; Ending::ALL.len()]; Transport::ALL.len()],
    /// Other edges that the stream knows.
    pub peers_known: Gauge,
    /// Those of them that did not answer when they were last told something.
    pub peers_unreachable: Gauge,
    /// Connections of other edges that are open.
    pub peer_connections: Gauge,
    /// Tunnels of upstreams that dial in, to this edge.
    pub tunnels: Gauge,
    peer_deliveries: [Counter; PeerDelivery::ALL.len()],
    rejected: [Counter; Rejection::ALL.len()],
    upstream_faults: [Counter; UpstreamFault::ALL.len()],
    calls: Mutex<BTreeMap<(Box<str>, Outcome), Calls>>,
}

/// Calls of one method that ended in one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// How many.
    pub calls: u64,
    /// Their durations, added up, in microseconds.
    pub duration_us: u64,
}

/// Methods that get a label of their own; there are fewer in the protocol.
const MAX_METHODS: usize = 64;

impl Metrics {
    /// All zero.
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// Sessions over this transport that are open.
    pub fn client_sessions(&self, transport: Transport) -> &Gauge {
        &self.client_sessions[transport as usize]
    }

    /// Sessions over this transport that ended in this way.
    pub fn client_sessions_ended(&self, transport: Transport, ending: Ending) -> &Counter {
        &self.client_sessions_ended[transport as usize][ending as usize]
    }

    /// Requests turned away for this reason.
    pub fn rejected(&self, reason: Rejection) -> &Counter {
        &self.rejected[reason as usize]
    }

    /// What was brought to other edges and ended in this way.
    pub fn peer_deliveries(&self, outcome: PeerDelivery) -> &Counter {
        &self.peer_deliveries[outcome as usize]
    }

    /// Calls that an upstream failed in this way.
    pub fn upstream_fault(&self, fault: UpstreamFault) -> &Counter {
        &self.upstream_faults[fault as usize]
    }

    /// Counts calls that workers handed over. Not on the road of a call.
    pub(crate) fn count_calls(&self, method: &str, outcome: Outcome, calls: u64, duration_us: u64) {
        let mut counted = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let full = counted.len() >= MAX_METHODS * 6;
        let key = (Box::from(method), outcome);
        let key = if full && !counted.contains_key(&key) { (Box::from("other"), outcome) } else { key };
        let entry = counted.entry(key).or_default();
        entry.calls = entry.calls.saturating_add(calls);
        entry.duration_us = entry.duration_us.saturating_add(duration_us);
    }

    /// Calls that ended, by method and outcome.
    pub fn calls(&self) -> Vec<(Box<str>, Outcome, Calls)> {
        let counted = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        counted.iter().map(|((method, outcome), calls)| (method.clone(), *outcome, *calls)).collect()
    }
}
