//! Who is calling: the bearer in `Authorization`, verified once and then remembered by each worker.
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

/// Verified bearers that one worker remembers.
const MAX_REMEMBERED: usize = 10_000;

/// The bearers one worker has verified, by their whole text.
#[derive(Debug, Default)]
pub struct Verified {
    bearers: RefCell<HashMap<Box<str>, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    /// The uid of the token it stands for.
    token: Arc<str>,
    /// When the bearer itself ends, in seconds since the Unix epoch.
    expires: Option<u64>,
    /// The trust it was verified by.
    trust: u64,
}

impl Verified {
    /// The token that a bearer stands for, while it is in force.
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
        if let Some(known) = self.bearers.borrow().get(bearer)
            && known.trust == trust.generation
            && known.expires.is_none_or(|expires| now < expires)
        {
            return Some(Arc::clone(&known.token));
        }
        let claims = bearer::verify(trust, bearer)?;
        let token: Arc<str> = claims.jti.into();
        let known = Known { token: Arc::clone(&token), expires: claims.exp, trust: trust.generation };
        self.remember(bearer, known);
        Some(token)
    }

    fn remember(&self, bearer: &str, known: Known) {
        let mut bearers = self.bearers.borrow_mut();
        if bearers.len() >= MAX_REMEMBERED {
            bearers.clear();
        }
        bearers.insert(bearer.into(), known);
    }
}

/// How long a token lasts from `now` on, where it ends by itself.
pub fn remaining(token: &Token, now: u64) -> Option<Duration> {
    token.expires.map(|expires| Duration::from_secs(expires.saturating_sub(now)))
}

/// Whether a token is neither revoked nor past its end.
pub fn is_in_force(token: &Token, now: u64) -> bool {
    !token.revoked && token.expires.is_none_or(|expires| now < expires)
}
