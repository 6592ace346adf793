//! The sessions that upstreams have lost, as far as it was found out. All workers share it, so that a loss that one of them met
//! fails no call of another. It must not know how sessions are opened.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use mcp::session_loss::Ending;

use crate::snapshot::ConnectionKey;

/// The losses of each upstream that has sessions open.
#[derive(Debug, Default)]
pub struct SessionLosses(Mutex<HashMap<ConnectionKey, Weak<UpstreamLosses>>>);

/// The losses of one upstream.
#[derive(Debug, Default)]
pub(super) struct UpstreamLosses {
    count: AtomicU64,
    latest: Mutex<Option<Ending>>,
}

impl SessionLosses {
    /// Returns those of an upstream. They are kept as long as somebody holds them.
    pub(super) fn of(&self, connection: ConnectionKey) -> Arc<UpstreamLosses> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(losses) = all.get(&connection).and_then(Weak::upgrade) {
            return losses;
        }
        all.retain(|_, losses| losses.strong_count() > 0);
        let losses = Arc::default();
        all.insert(connection, Arc::downgrade(&losses));
        losses
    }
}

impl UpstreamLosses {
    /// How many there were.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Notes one more, and how a call ended in that session. Returns how many there are now.
    pub(super) fn note(&self, ending: Ending) -> u64 {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(ending);
        self.count.fetch_add(1, Ordering::Release) + 1
    }

    /// How a call ended in the session that was lost last.
    pub(super) fn latest(&self) -> Option<Ending> {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_losses_of_an_upstream_and_nothing_is_kept_of_who_has_gone() {
        let all = SessionLosses::default();
        let key = |reach| ConnectionKey { reach, credential: 0 };
        let (one, same, other) = (all.of(key(1)), all.of(key(1)), all.of(key(2)));
        let ending = Ending::read(503, b"gone");
        assert_eq!(one.note(ending), 1);
        assert_eq!((same.count(), same.latest()), (1, Some(ending)));
        assert_eq!((other.count(), other.latest()), (0, None));
        drop((one, same, other));
        let fresh = all.of(key(1));
        assert_eq!(fresh.count(), 0);
        assert_eq!(all.0.lock().unwrap().len(), 1);
    }
}
