//! The bearers that one worker has verified. It must not know what a principal may do.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::Principal;
use super::credentials::verify_bearer;
use crate::error::Failure;
use crate::snapshot::Trust;

/// Bearers that one worker caches.
const MAX_CACHED: usize = 10_000;

/// The bearers that one worker has verified, by their whole text.
#[derive(Debug, Default)]
pub struct BearerCache {
    bearers: RefCell<HashMap<Box<str>, CachedBearer>>,
}

#[derive(Debug)]
struct CachedBearer {
    principal: Arc<Principal>,
    /// The generation of the trust that it was verified by.
    trust: u64,
}

impl BearerCache {
    /// Returns the principal of a bearer whose signature is valid. What it may do, and until when, is for `policy` to say.
    pub fn authenticate(&self, trust: &Trust, bearer: Option<&str>) -> Result<Arc<Principal>, Failure> {
        let bearer = bearer.ok_or(Failure::Bearer { presented: false })?;
        if let Some(cached) = self.bearers.borrow().get(bearer)
            && cached.trust == trust.generation
        {
            return Ok(Arc::clone(&cached.principal));
        }
        let principal = verify_bearer(trust, bearer).ok_or(Failure::Bearer { presented: true })?;
        let principal = Arc::new(principal);
        self.cache(bearer, CachedBearer { principal: Arc::clone(&principal), trust: trust.generation });
        Ok(principal)
    }

    fn cache(&self, bearer: &str, cached: CachedBearer) {
        let mut bearers = self.bearers.borrow_mut();
        if bearers.len() >= MAX_CACHED {
            bearers.clear();
        }
        bearers.insert(bearer.into(), cached);
    }
}
