//! The sessions that conversations have for themselves, counted by token and upstream. All workers share the counts.
//!
//! A lock is taken where such a session begins or ends, and nowhere else. It must not know how sessions are opened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::snapshot::ConnectionKey;

/// The counts of exclusive sessions.
#[derive(Debug, Default)]
pub struct ExclusiveSessions(Mutex<HashMap<SessionHolder, usize>>);

/// Whom a session is counted for: the uid of the token, and the upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::upstream::mcp) struct SessionHolder {
    pub principal: Box<str>,
    pub connection: ConnectionKey,
}

/// The right of one conversation to a session of its own, until it is dropped.
#[derive(Debug)]
pub(in crate::upstream) struct ExclusiveSession {
    counts: Arc<ExclusiveSessions>,
    holder: SessionHolder,
}

impl ExclusiveSessions {
    /// Counts one more session, unless its holder has `limit`.
    pub(in crate::upstream::mcp) fn acquire(
        self: &Arc<Self>,
        holder: &SessionHolder,
        limit: usize,
    ) -> Option<ExclusiveSession> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(holder).copied().unwrap_or_default();
        if count >= limit {
            return None;
        }
        counts.insert(holder.clone(), count + 1);
        Some(ExclusiveSession { counts: Arc::clone(self), holder: holder.clone() })
    }
}

impl ExclusiveSession {
    /// Whom it is counted for.
    pub(in crate::upstream::mcp) fn holder(&self) -> &SessionHolder {
        &self.holder
    }
}

impl Drop for ExclusiveSession {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_has_its_share_at_each_upstream() {
        let counts = Arc::new(ExclusiveSessions::default());
        let holder = |principal: &str, connection| SessionHolder {
            principal: principal.into(),
            connection: ConnectionKey { reach: connection, credential: 0 },
        };
        let first = counts.acquire(&holder("a", 1), 1).unwrap();
        assert_eq!(first.holder(), &holder("a", 1));
        assert!(counts.acquire(&holder("a", 1), 1).is_none());
        let others = [counts.acquire(&holder("a", 2), 1), counts.acquire(&holder("b", 1), 1)];
        assert!(others.iter().all(Option::is_some));
        drop(first);
        assert!(counts.acquire(&holder("a", 1), 1).is_some());
        drop(others);
        assert!(counts.0.lock().unwrap().is_empty(), "nothing is kept of who holds none");
    }
}
