//! The context of calls to upstreams: the parts of the edge that they use, and one worker's connections and sessions.
//!
//! It must not know calls, nor who makes them.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;

use super::connect::HttpPool;
use super::mcp::{InFlightCall, SessionKey, SessionPool};
use crate::collections::TwoGenerationCache;
use crate::config::limits::Limits;
use crate::error::Fault;
use crate::fleet::Fleet;
use crate::observe::Metrics;
use crate::session::SessionId;
use crate::snapshot::{ConnectionKey, Current, McpUpstream, Upstream, UpstreamKind};
use crate::tunnels::Tunnels;

/// Bits of a worker's first request id. Some JSON libraries read no integers beyond 2^53.
const FIRST_ID_MASK: u64 = (1 << 52) - 1;
const MAX_POOLS: usize = 4_096;
/// Past so many, a conversation shares sessions that it would have for itself, and misses messages on the server
/// stream.
const MAX_EXCLUSIVE: usize = 3_072;
/// The log levels that are kept at least; at most twice as many.
const LEVELS: usize = 16_384;

/// The parts of the edge that calls to upstreams use. All workers share them.
pub struct Environment {
    /// The snapshot in force.
    pub current: Arc<Current>,
    /// The limits of everything that grows.
    pub limits: Limits,
    /// The counters and gauges.
    pub metrics: Arc<Metrics>,
    /// The siblings, and the calls that wait at this edge.
    pub fleet: Arc<Fleet>,
    /// The tunnels of upstreams that dial in.
    pub tunnels: Arc<Tunnels>,
    /// The TLS configuration for upstreams.
    pub tls: Arc<ClientConfig>,
}

/// One worker's connections and sessions with upstreams, and the parts of the edge that its calls use.
pub struct Context {
    pub(super) environment: Arc<Environment>,
    http_pools: RefCell<HashMap<ConnectionKey, Rc<HttpPool>>>,
    pub(super) session_pools: RefCell<HashMap<SessionKey, Rc<SessionPool>>>,
    pub(super) calls: RefCell<HashMap<u64, InFlightCall>>,
    levels: RefCell<TwoGenerationCache<SessionId, Bytes>>,
    next: Cell<u64>,
}

impl Context {
    /// Starts with none.
    pub fn new(environment: Arc<Environment>) -> Self {
        Self {
            environment,
            http_pools: RefCell::default(),
            session_pools: RefCell::default(),
            calls: RefCell::default(),
            levels: RefCell::new(TwoGenerationCache::new(LEVELS)),
            next: Cell::new(rand::random::<u64>() & FIRST_ID_MASK),
        }
    }

    pub(super) fn http_pool(&self, upstream: &Upstream) -> Result<Rc<HttpPool>, Fault> {
        if let Some(http_pool) = self.http_pools.borrow().get(&upstream.connection_key) {
            return Ok(Rc::clone(http_pool));
        }
        let headers = match &upstream.kind {
            UpstreamKind::Mcp(_) => super::mcp::request_headers(),
        };
        let http_pool = Rc::new(HttpPool::new(Arc::clone(&self.environment), upstream, headers)?);
        self.http_pools.borrow_mut().insert(upstream.connection_key, Rc::clone(&http_pool));
        Ok(http_pool)
    }

    pub(super) fn session_pool(
        &self,
        upstream: &Arc<Upstream>,
        mcp: &McpUpstream,
        key: SessionKey,
    ) -> Result<Rc<SessionPool>, Fault> {
        if let Some(pool) = self.session_pools.borrow().get(&key) {
            return Ok(Rc::clone(pool));
        }
        let http_pool = self.http_pool(upstream)?;
        let mut session_pools = self.session_pools.borrow_mut();
        if session_pools.len() >= MAX_EXCLUSIVE && key.conversation.is_some() {
            drop(session_pools);
            return self.session_pool(upstream, mcp, SessionKey { conversation: None, ..key });
        }
        if session_pools.len() >= MAX_POOLS {
            return Err(Fault::Session("this edge holds too many sessions with upstreams".to_owned()));
        }
        let gauge = self.environment.metrics.upstream_sessions.clone();
        let level = key.conversation.and_then(|session_id| self.level(&session_id)).map(Bytes::from);
        let pool = Rc::new(SessionPool::new(http_pool, Arc::clone(upstream), mcp, key, level, gauge));
        session_pools.insert(key, Rc::clone(&pool));
        Ok(pool)
    }

    /// Remembers the level of log messages that a session asked for.
    pub(super) fn remember_level(&self, session_id: SessionId, level: Bytes) {
        self.levels.borrow_mut().insert(session_id, level);
    }

    /// Returns the raw level that a session asked for.
    pub(super) fn level(&self, session_id: &SessionId) -> Option<String> {
        let text = |raw: &mut Bytes| String::from_utf8(raw.to_vec()).ok();
        self.levels.borrow_mut().with(session_id, text)?
    }

    /// Returns an id that no other request of this worker has, and hardly one of another worker or edge: some servers
    /// confuse the streams of several sessions when their requests have the same id.
    pub(super) fn next_request_id(&self) -> u64 {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        number
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
        let unused: Vec<Rc<SessionPool>> = {
            let mut session_pools = self.session_pools.borrow_mut();
            let is_unused =
                |key: &SessionKey, pool: &Rc<SessionPool>| pool.is_unused(patience(key.connection));
            let (gone, kept) =
                session_pools.drain().partition::<HashMap<_, _>, _>(|(key, pool)| is_unused(key, pool));
            kept.values().for_each(|pool| pool.sweep(idle));
            *session_pools = kept;
            gone.into_values().collect()
        };
        for pool in unused {
            tokio::task::spawn_local(async move { pool.close().await });
        }
        self.http_pools.borrow_mut().retain(|connection, http_pool| {
            let referred = Rc::strong_count(http_pool) > 1;
            !http_pool.sweep(idle) && known.contains(connection) || referred
        });
    }

    /// Ends every session.
    pub async fn close(&self) {
        let session_pools: Vec<Rc<SessionPool>> =
            self.session_pools.borrow_mut().drain().map(|(_, pool)| pool).collect();
        for pool in session_pools {
            pool.close().await;
        }
    }
}
