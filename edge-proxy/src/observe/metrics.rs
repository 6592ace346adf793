//! The counters and gauges of an edge, as atomics that cost a call next to nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use egress::Class;
use mcp::quirk::Quirk;
use trunkline::telemetry::v1::UsageOutcome as Outcome;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Returns the number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default, Clone)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets the number.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the number.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds one until the guard is dropped.
    pub fn enter(&self) -> GaugeGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(Arc::clone(&self.0))
    }

    /// Adds one until the guard is dropped, unless the number is `limit` already.
    pub fn enter_below(&self, limit: usize) -> Option<GaugeGuard> {
        let entered = self.enter();
        (usize::try_from(self.get()).unwrap_or_default() <= limit).then_some(entered)
    }
}

/// One unit of a gauge, taken off when it is dropped.
#[derive(Debug)]
pub struct GaugeGuard(Arc<AtomicI64>);

impl Drop for GaugeGuard {
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
            /// All values.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The value of the label in metrics.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $label,)+ }
            }
        }
    };
}

labels! {
    /// The reason that a request was refused before it reached a target.
    Rejection {
        /// No bearer, or one that is not valid.
        Unauthenticated = "unauthenticated",
        /// A condition of the token does not hold.
        UnmetCondition = "unmet_condition",
        /// The path names no server that the caller may see.
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
    /// What is bounded for the whole edge and shared by tokens.
    Bound {
        /// Requests in flight.
        InFlight = "in_flight",
        /// Calls that wait for client input.
        ParkedCalls = "parked_calls",
        /// Calls that go on after their client has hung up.
        CallsWithoutClient = "calls_without_client",
        /// Sessions with subscriptions.
        Subscriptions = "subscriptions",
        /// Tickets that were used within their lifetime.
        Tickets = "tickets",
    }
}

labels! {
    /// The reason that a call was refused by a limit of its token.
    LimitRefusal {
        /// A rate is used up.
        Rate = "rate_exceeded",
        /// A quota is used up.
        Quota = "quota_exceeded",
        /// A limit that cannot be read.
        Unusable = "policy_error",
        /// There are too many limits to count.
        Buckets = "too_many_limits",
    }
}

labels! {
    /// What came of a call that a rule holds back.
    ApprovalOutcome {
        /// It was approved, and is made.
        Used = "used",
        /// Somebody is asked to approve it.
        Pending = "pending",
        /// Somebody denied it.
        Denied = "denied",
        /// Too many wait already.
        TooMany = "too_many",
        /// Too many were asked for here at a time.
        Busy = "busy",
        /// No control plane answered.
        Unanswered = "unanswered",
        /// The control plane cannot read what is called.
        Unreadable = "unreadable",
    }
}

labels! {
    /// The outcome of a delivery to a sibling.
    DeliveryOutcome {
        /// The waiter has it.
        Delivered = "delivered",
        /// Nothing waits at the address any more, or the edge is gone.
        Gone = "gone",
        /// The waiter does not keep up.
        Full = "full",
        /// The edge did not answer.
        Unreachable = "unreachable",
    }
}

labels! {
    /// A fault of an upstream in a call.
    UpstreamFault {
        /// No connection.
        Connect = "connect",
        /// No answer in time.
        Timeout = "timeout",
        /// An HTTP status that reports an error.
        Status = "status",
        /// An answer that breaks the protocol.
        Malformed = "malformed",
        /// An answer or event larger than allowed.
        TooLarge = "too_large",
        /// The answer broke off.
        Interrupted = "interrupted",
        /// Its session ended and could not be opened again.
        Session = "session",
        /// A call that waited for its client could not be continued.
        Lost = "lost",
    }
}

labels! {
    /// A client transport whose session is its connection.
    ConnectionTransport {
        /// HTTP+SSE.
        Sse = "sse",
        /// WebSocket.
        WebSocket = "websocket",
    }
}

labels! {
    /// The reason that such a connection was closed.
    CloseReason {
        /// The client disconnected.
        Client = "client",
        /// The edge is stopping.
        Drain = "drain",
        /// The token was revoked, has expired, or no longer has the server.
        Unauthorized = "unauthorized",
        /// The client did not read.
        NotReading = "not_reading",
        /// The client sent nothing for too long.
        Silent = "silent",
        /// A message that is too large.
        TooLarge = "too_large",
        /// A frame that is no WebSocket.
        Malformed = "malformed",
        /// Text that is not UTF-8.
        Encoding = "encoding",
    }
}

/// The counters and gauges of an edge.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Open client connections.
    pub connections: Gauge,
    /// Connections of balancers that did not begin with a PROXY protocol header.
    pub proxy_headers_refused: Counter,
    /// TLS handshakes of clients that failed.
    pub tls_handshakes_failed: Counter,
    /// Open streams to clients (GET streams and SSE answers).
    pub streams: Gauge,
    /// Calls in flight.
    pub in_flight: Gauge,
    /// Open upstream sessions.
    pub upstream_sessions: Gauge,
    /// Sessions with upstreams that were ended to make room for others of the same token.
    pub upstream_sessions_replaced: Counter,
    /// Calls in sessions that clients share, because their token had too many of its own.
    pub upstream_sessions_shared: Counter,
    /// Progress notifications that were dropped because their client does not keep up.
    pub progress_dropped: Counter,
    /// Calls that go on after their client has hung up.
    pub calls_without_client: Gauge,
    /// Calls that wait for client input.
    pub parked_calls: Gauge,
    /// The registry revision in force.
    pub revision: Gauge,
    /// 1 while the stream from a control plane is open.
    pub stream_connected: Gauge,
    /// Resources whose newest version is refused.
    pub refused: Gauge,
    /// Tokens and grants of which a part cannot be evaluated, and so denies.
    pub policy_unusable: Gauge,
    /// The registry revision of the copy on disk; 0 for none by this run.
    pub disk_revision: Gauge,
    /// 1 while the snapshot in force is not on disk yet.
    pub disk_behind: Gauge,
    /// The time of the copy on disk, in seconds since the Unix epoch; 0 for none by this run.
    pub disk_saved_at: Gauge,
    /// Usage records that are not acknowledged yet.
    pub usage_backlog: Gauge,
    /// Calls that were counted under a folded key, because there were too many keys.
    pub usage_overflow: Counter,
    /// Usage records that no control plane takes.
    pub usage_lost: Counter,
    /// Audit records that could not be kept until a control plane took them.
    pub audit_dropped: Counter,
    client_sessions: [Gauge; ConnectionTransport::ALL.len()],
    client_sessions_ended: [[Counter; CloseReason::ALL.len()]; ConnectionTransport::ALL.len()],
    /// Siblings in the snapshot.
    pub siblings_known: Gauge,
    /// Siblings that did not answer the last event sent to them.
    pub siblings_unreachable: Gauge,
    /// Open connections of siblings.
    pub sibling_connections: Gauge,
    /// Tunnels of upstreams to this edge.
    pub tunnels: Gauge,
    /// Tunnels that were closed because the upstream sent too many frames without data.
    pub tunnel_floods: Counter,
    sibling_deliveries: [Counter; DeliveryOutcome::ALL.len()],
    rejected: [Counter; Rejection::ALL.len()],
    shares_refused: [Counter; Bound::ALL.len()],
    limits_refused: [Counter; LimitRefusal::ALL.len()],
    approvals: [Counter; ApprovalOutcome::ALL.len()],
    /// Approvals that are asked for.
    pub approvals_open: Gauge,
    /// Limits that calls are counted in.
    pub limit_buckets: Gauge,
    /// 1 while limits are leased from a control plane.
    pub limit_leases_connected: Gauge,
    upstream_faults: [Counter; UpstreamFault::ALL.len()],
    egress_refused: [Counter; Class::ALL.len()],
    upstream_quirks: QuirkCounters,
    calls: Mutex<BTreeMap<(Box<str>, Outcome), Calls>>,
}

/// A counter for each quirk of upstreams.
#[derive(Debug)]
struct QuirkCounters([Counter; Quirk::ALL.len()]);

impl Default for QuirkCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

/// Sums over the calls of one method with one outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// The number of calls.
    pub calls: u64,
    /// The sum of their durations, in microseconds.
    pub duration_us: u64,
}

/// Methods that get a label of their own; the protocol has fewer.
const MAX_METHODS: usize = 64;

impl Metrics {
    /// Creates metrics that are all zero.
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// The open sessions over this transport.
    pub fn client_sessions(&self, transport: ConnectionTransport) -> &Gauge {
        &self.client_sessions[transport as usize]
    }

    /// Counts the sessions over this transport that were closed for this reason.
    pub fn client_sessions_ended(&self, transport: ConnectionTransport, ending: CloseReason) -> &Counter {
        &self.client_sessions_ended[transport as usize][ending as usize]
    }

    /// Counts the requests that were refused for this reason.
    pub fn rejected(&self, reason: Rejection) -> &Counter {
        &self.rejected[reason as usize]
    }

    /// Counts what was refused to tokens that have their share of this.
    pub fn shares_refused(&self, bound: Bound) -> &Counter {
        &self.shares_refused[bound as usize]
    }

    /// Counts the calls that limits refused for this reason.
    pub fn limits_refused(&self, reason: LimitRefusal) -> &Counter {
        &self.limits_refused[reason as usize]
    }

    /// Counts the calls that rules held back and that came to this.
    pub fn approvals(&self, outcome: ApprovalOutcome) -> &Counter {
        &self.approvals[outcome as usize]
    }

    /// Counts the deliveries to siblings with this outcome.
    pub fn sibling_deliveries(&self, outcome: DeliveryOutcome) -> &Counter {
        &self.sibling_deliveries[outcome as usize]
    }

    /// Counts the calls that an upstream failed with this fault.
    pub fn upstream_fault(&self, fault: UpstreamFault) -> &Counter {
        &self.upstream_faults[fault as usize]
    }

    /// Counts the connections to upstreams that the egress rule refused for an address of this class.
    pub fn egress_refused(&self, class: Class) -> &Counter {
        &self.egress_refused[class as usize]
    }

    /// Counts how often upstreams showed this quirk.
    pub fn upstream_quirk(&self, quirk: Quirk) -> &Counter {
        &self.upstream_quirks.0[quirk as usize]
    }

    /// Counts calls that workers handed over. Not on the path of a call.
    pub(crate) fn count_calls(&self, method: &str, outcome: Outcome, calls: u64, duration_us: u64) {
        let mut counted = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let full = counted.len() >= MAX_METHODS * 6;
        let key = (Box::from(method), outcome);
        let key = if full && !counted.contains_key(&key) { (Box::from("other"), outcome) } else { key };
        let entry = counted.entry(key).or_default();
        entry.calls = entry.calls.saturating_add(calls);
        entry.duration_us = entry.duration_us.saturating_add(duration_us);
    }

    /// Returns the calls that ended, by method and outcome.
    pub fn calls(&self) -> Vec<(Box<str>, Outcome, Calls)> {
        let counted = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        counted.iter().map(|((method, outcome), calls)| (method.clone(), *outcome, *calls)).collect()
    }
}
