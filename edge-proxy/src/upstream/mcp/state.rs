//! One worker's state with MCP upstreams: sessions, calls in flight, log levels, and the ids of requests.
//!
//! It must not know how calls are made.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::channel::ChannelPool;
use super::in_flight::InFlightCall;
use super::session::{ExclusiveSession, SessionHolder, SessionKey, SessionPool};
use crate::collections::TwoGenerationCache;
use crate::error::Fault;
use crate::identity::Principal;
use crate::session::SessionId;
use crate::snapshot::{ConnectionKey, McpUpstream, Upstream};
use crate::upstream::Context;

/// Bits of a worker's first request id, and its largest: servers on small machines count in 32 bits, and Lua's JSON in 14 digits.
const FIRST_ID_MASK: u64 = (1 << 30) - 1;
const MAX_ID: u64 = (1 << 31) - 1;
/// The smallest id of a request: servers that ask `if (!id)` know no 0, and 1 is that of handshakes.
const MIN_ID: u64 = 2;
const MAX_POOLS: usize = 4_096;
/// Past so many, a conversation shares sessions that it would have for itself, and misses messages on the server
/// stream.
const MAX_EXCLUSIVE: usize = 3_072;
/// The log levels that are kept at least; at most twice as many.
const LEVELS: usize = 16_384;

/// One worker's state with MCP upstreams.
pub(in crate::upstream) struct State {
    pub(super) session_pools: RefCell<HashMap<SessionKey, Rc<SessionPool>>>,
    /// The connections of the modern era to upstreams over WebSocket.
    modern_channels: RefCell<HashMap<ConnectionKey, Rc<ChannelPool>>>,
    pub(super) calls: RefCell<HashMap<u64, InFlightCall>>,
    levels: RefCell<TwoGenerationCache<SessionId, Bytes>>,
    next: Cell<u64>,
    /// Whether ids began anew: from then on one may belong to a call that is still in flight.
    began_anew: Cell<bool>,
}

impl State {
    /// Starts with none.
    pub(in crate::upstream) fn new() -> Self {
        Self {
            session_pools: RefCell::default(),
            modern_channels: RefCell::default(),
            calls: RefCell::default(),
            levels: RefCell::new(TwoGenerationCache::new(LEVELS)),
            next: Cell::new(MIN_ID + (rand::random::<u64>() & FIRST_ID_MASK)),
            began_anew: Cell::default(),
        }
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
        loop {
            let number = self.next.get();
            self.next.set(number + 1);
            if number >= MAX_ID {
                self.next.set(MIN_ID);
                self.began_anew.set(true);
            }
            if !self.began_anew.get() || !self.calls.borrow().contains_key(&number) {
                return number;
            }
        }
    }

    /// Closes sessions that are unused for as long as `patience` says, and what is idle of the others.
    pub(in crate::upstream) fn sweep(&self, idle: Duration, patience: impl Fn(ConnectionKey) -> Duration) {
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
        self.modern_channels.borrow_mut().retain(|connection, channels| {
            channels.sweep(idle.min(patience(*connection)));
            !channels.is_empty() || Rc::strong_count(channels) > 1
        });
        for pool in unused {
            tokio::task::spawn_local(async move { pool.close().await });
        }
    }

    /// Ends every session.
    pub(in crate::upstream) async fn close(&self) {
        let session_pools: Vec<Rc<SessionPool>> =
            self.session_pools.borrow_mut().drain().map(|(_, pool)| pool).collect();
        for pool in session_pools {
            pool.close().await;
        }
        for (_, channels) in self.modern_channels.borrow_mut().drain() {
            channels.close();
        }
    }
}

impl Context {
    /// Returns the sessions of a key, opened for `principal` when needed.
    pub(super) fn session_pool(
        &self,
        upstream: &Arc<Upstream>,
        mcp: &McpUpstream,
        key: SessionKey,
        principal: &Principal,
    ) -> Result<Rc<SessionPool>, Fault> {
        if let Some(pool) = self.mcp.session_pools.borrow().get(&key) {
            return Ok(Rc::clone(pool));
        }
        let exclusive = self.exclusive_session(key, principal);
        if exclusive.is_none() && key.conversation.is_some() {
            self.environment.metrics.upstream_sessions_shared.inc();
            return self.session_pool(upstream, mcp, SessionKey { conversation: None, ..key }, principal);
        }
        let http_pool = self.http_pool(upstream)?;
        let mut session_pools = self.mcp.session_pools.borrow_mut();
        if session_pools.len() >= MAX_POOLS {
            return Err(Fault::Session("this edge holds too many sessions with upstreams".to_owned()));
        }
        let gauge = self.environment.metrics.upstream_sessions.clone();
        let level = key.conversation.and_then(|session_id| self.mcp.level(&session_id)).map(Bytes::from);
        let pool =
            Rc::new(SessionPool::new(http_pool, Arc::clone(upstream), mcp, key, level, gauge, exclusive));
        session_pools.insert(key, Rc::clone(&pool));
        Ok(pool)
    }

    /// Returns the connections of the modern era to an upstream over WebSocket, which are opened when needed.
    pub(super) fn modern_channels(
        &self,
        upstream: &Arc<Upstream>,
        mcp: &McpUpstream,
    ) -> Result<Rc<ChannelPool>, Fault> {
        if let Some(channels) = self.mcp.modern_channels.borrow().get(&upstream.connection_key) {
            return Ok(Rc::clone(channels));
        }
        let (http_pool, key) = (self.http_pool(upstream)?, SessionKey::of_modern_connection(upstream));
        let gauge = self.environment.metrics.upstream_sessions.clone();
        let channels = Rc::new(ChannelPool::new(http_pool, Arc::clone(upstream), mcp.transport, key, gauge));
        self.mcp.modern_channels.borrow_mut().insert(upstream.connection_key, Rc::clone(&channels));
        Ok(channels)
    }

    /// Counts one more session that a conversation has for itself, for which the idlest of the same token at the same
    /// upstream makes room. `None` where there is no room, or none is needed.
    fn exclusive_session(&self, key: SessionKey, principal: &Principal) -> Option<ExclusiveSession> {
        if key.conversation.is_none() || self.mcp.session_pools.borrow().len() >= MAX_EXCLUSIVE {
            return None;
        }
        let holder = SessionHolder { principal: principal.uid.clone(), connection: key.connection };
        let limit = self.environment.limits.max_upstream_sessions_per_token;
        let acquire = || self.environment.exclusive_sessions.acquire(&holder, limit);
        acquire().or_else(|| if self.end_idlest(&holder) { acquire() } else { None })
    }

    /// Ends the session of a holder that nothing has needed for longest. Returns false if all are needed.
    fn end_idlest(&self, holder: &SessionHolder) -> bool {
        let mut session_pools = self.mcp.session_pools.borrow_mut();
        let idle = session_pools.iter().filter_map(|(key, pool)| Some((pool.idle_since(holder)?, *key)));
        let idlest = idle.min_by_key(|(since, _)| *since).and_then(|(_, key)| session_pools.remove(&key));
        let Some(idlest) = idlest else { return false };
        idlest.make_room();
        self.environment.metrics.upstream_sessions_replaced.inc();
        tokio::task::spawn_local(async move { idlest.close().await });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_such_that_every_server_can_count_them() {
        for _ in 0..100 {
            let first = State::new().next_request_id();
            assert!((MIN_ID..=MIN_ID + FIRST_ID_MASK).contains(&first), "{first}");
        }
        let state = State::new();
        state.next.set(MAX_ID - 1);
        let ids: Vec<u64> = (0..4).map(|_| state.next_request_id()).collect();
        assert_eq!(ids, [MAX_ID - 1, MAX_ID, MIN_ID, MIN_ID + 1]);
    }
}
