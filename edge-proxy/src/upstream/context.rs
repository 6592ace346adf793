//! The context of calls to upstreams: the parts of the edge that they use, and one worker's connections, with the state of
//! each kind.
//!
//! It must not know calls, nor who makes them.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use egress::CheckedResolver;
use inbound::BodyBudget;
use rustls::ClientConfig;

use super::connect::HttpPool;
use super::mcp;
use super::place::Places;
use crate::config::limits::Limits;
use crate::error::Fault;
use crate::fleet::Fleet;
use crate::observe::Metrics;
use crate::session::EndedCalls;
use crate::snapshot::{ConnectionKey, Current, Upstream, UpstreamKind};
use crate::tunnels::Tunnels;

/// The parts of the edge that calls to upstreams use. All workers share them.
pub struct Environment {
    /// The snapshot in force.
    pub current: Arc<Current>,
    /// The limits of everything that grows.
    pub limits: Limits,
    /// The memory for bodies.
    pub bodies: Arc<BodyBudget>,
    /// The counters and gauges.
    pub metrics: Arc<Metrics>,
    /// The siblings, and the calls that wait at this edge.
    pub fleet: Arc<Fleet>,
    /// The tunnels of upstreams that dial in.
    pub tunnels: Arc<Tunnels>,
    /// Sessions with upstreams that conversations have for themselves.
    pub exclusive_sessions: Arc<mcp::ExclusiveSessions>,
    /// Sessions that upstreams have lost.
    pub session_losses: mcp::SessionLosses,
    /// Parked calls that were resumed and have ended.
    pub ended_calls: EndedCalls,
    /// What tokens share of the calls that go on or wait after their request.
    pub places: Places,
    /// The addresses of upstreams, as far as they are allowed.
    pub resolver: CheckedResolver,
    /// The TLS configuration for upstreams.
    pub tls: Arc<ClientConfig>,
}

/// One worker's connections to upstreams, the state of each kind, and the parts of the edge that its calls use.
pub struct Context {
    pub(super) environment: Arc<Environment>,
    http_pools: RefCell<HashMap<ConnectionKey, Rc<HttpPool>>>,
    pub(super) mcp: mcp::State,
}

impl Context {
    /// Starts with none.
    pub fn new(environment: Arc<Environment>) -> Self {
        Self { environment, http_pools: RefCell::default(), mcp: mcp::State::new() }
    }

    pub(super) fn http_pool(&self, upstream: &Upstream) -> Result<Rc<HttpPool>, Fault> {
        if let Some(http_pool) = self.http_pools.borrow().get(&upstream.connection_key) {
            return Ok(Rc::clone(http_pool));
        }
        let headers = match &upstream.kind {
            UpstreamKind::Mcp(_) => mcp::request_headers(),
        };
        let http_pool = Rc::new(HttpPool::new(Arc::clone(&self.environment), upstream, headers)?);
        self.http_pools.borrow_mut().insert(upstream.connection_key, Rc::clone(&http_pool));
        Ok(http_pool)
    }

    /// Closes unused connections and sessions. To be called every few seconds.
    pub fn sweep(&self) {
        let idle = self.environment.limits.upstream_session_idle;
        let snapshot = self.environment.current.load();
        let known: HashSet<ConnectionKey> =
            snapshot.upstreams.values().map(|known| known.connection_key).collect();
        // No call comes any more for an upstream that was deleted, or is now reached in another way.
        let patience =
            |connection: ConnectionKey| if known.contains(&connection) { idle } else { Duration::ZERO };
        self.mcp.sweep(idle, patience);
        self.http_pools.borrow_mut().retain(|connection, http_pool| {
            let referred = Rc::strong_count(http_pool) > 1;
            !http_pool.sweep(idle) && known.contains(connection) || referred
        });
    }

    /// Ends every session.
    pub async fn close(&self) {
        self.mcp.close().await;
    }
}
