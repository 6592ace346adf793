//! Parked calls that were resumed and have ended. It must not know how calls are parked.

use std::sync::{Mutex, PoisonError};

use super::seal;
use crate::collections::TwoGenerationCache;

/// Calls that are remembered at least.
const CAPACITY: usize = 65_536;

/// A parked call that has ended: the first 16 bytes of the SHA-256 digest of what tells it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndedCall([u8; 16]);

impl EndedCall {
    /// That of the call with this id in a session with an upstream.
    pub fn of(upstream: &str, session: &[u8], number: u64) -> Self {
        let name = seal::join_all(&[upstream.as_bytes(), session, &number.to_be_bytes()]);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &name);
        let mut call = [0; 16];
        call.iter_mut().zip(digest.as_ref()).for_each(|(byte, of_digest)| *byte = *of_digest);
        Self(call)
    }

    /// Its 16 bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads what another edge sent.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// The parked calls that ended last, at whichever edge.
#[derive(Debug)]
pub struct EndedCalls(Mutex<TwoGenerationCache<EndedCall, ()>>);

impl Default for EndedCalls {
    fn default() -> Self {
        Self(Mutex::new(TwoGenerationCache::new(CAPACITY)))
    }
}

impl EndedCalls {
    /// Notes that a call has ended.
    pub fn add(&self, call: EndedCall) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(call, ());
    }

    /// Whether a call has ended lately.
    pub fn contains(&self, call: EndedCall) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).with(&call, |()| ()).is_some()
    }
}
