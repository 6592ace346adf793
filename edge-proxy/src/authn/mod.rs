//! The caller of a request: the bearer in `Authorization`, verified once and then cached by each worker.
//!
//! It must not know what the caller wants.

mod bearer;

pub use bearer::tunnel;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Failure;
use crate::snapshot::{Snapshot, Token, Trust};

/// Bearers that one worker caches.
const MAX_CACHED: usize = 10_000;

/// The bearers that one worker has verified, by their whole text.
#[derive(Debug, Default)]
pub struct BearerCache {
    bearers: RefCell<HashMap<Box<str>, CachedBearer>>,
}

#[derive(Debug, Clone)]
struct CachedBearer {
    /// The uid of the token that it stands for.
    token: Arc<str>,
    /// The time when the bearer ends, in seconds since the Unix epoch.
    expires: Option<u64>,
    /// The generation of the trust that it was verified by.
    trust: u64,
}

impl BearerCache {
    /// Returns the token that a bearer stands for, if it is in force.
    pub fn caller(&self, snapshot: &Snapshot, bearer: Option<&str>, now: u64) -> Result<Arc<Token>, Failure> {
        let bearer = bearer.ok_or(Failure::Bearer { presented: false })?;
        let refused = Failure::Bearer { presented: true };
        let uid = self.token_uid(&snapshot.trust, bearer, now).ok_or_else(|| refused.clone())?;
        match snapshot.tokens.get(&*uid) {
            Some(token) if is_in_force(token, now) => Ok(Arc::clone(token)),
            _ => Err(refused),
        }
    }

    fn token_uid(&self, trust: &Trust, bearer: &str, now: u64) -> Option<Arc<str>> {
        if let Some(cached) = self.bearers.borrow().get(bearer)
            && cached.trust == trust.generation
            && cached.expires.is_none_or(|expires| now < expires)
        {
            return Some(Arc::clone(&cached.token));
        }
        let claims = bearer::verify(trust, bearer)?;
        let token: Arc<str> = claims.jti.into();
        let cached = CachedBearer { token: Arc::clone(&token), expires: claims.exp, trust: trust.generation };
        self.cache(bearer, cached);
        Some(token)
    }

    fn cache(&self, bearer: &str, cached: CachedBearer) {
        let mut bearers = self.bearers.borrow_mut();
        if bearers.len() >= MAX_CACHED {
            bearers.clear();
        }
        bearers.insert(bearer.into(), cached);
    }
}

/// The time that a token has left at `now`, if it expires.
pub fn remaining(token: &Token, now: u64) -> Option<Duration> {
    token.expires.map(|expires| Duration::from_secs(expires.saturating_sub(now)))
}

/// Returns whether a token is neither revoked nor expired.
pub fn is_in_force(token: &Token, now: u64) -> bool {
    !token.revoked && token.expires.is_none_or(|expires| now < expires)
}
