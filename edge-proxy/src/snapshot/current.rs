//! The snapshot in force, published atomically, and when a control plane was last heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::Snapshot;

/// The snapshot in force. Loading it takes no lock.
#[derive(Debug)]
pub struct Current {
    snapshot: ArcSwap<Snapshot>,
    published: watch::Sender<u64>,
    whole: watch::Sender<bool>,
    recalled: AtomicBool,
    heard_at: AtomicU64,
}

impl Default for Current {
    fn default() -> Self {
        Current {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            published: watch::Sender::new(0),
            whole: watch::Sender::new(false),
            recalled: AtomicBool::new(false),
            heard_at: AtomicU64::new(0),
        }
    }
}

impl Current {
    /// An empty snapshot, which no request is served from.
    pub fn new() -> Current {
        Current::default()
    }

    /// The snapshot in force. A request calls this once and keeps what it got.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// The snapshot in force, for those that keep it long.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Counts publications: moves whenever another snapshot is in force.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Puts `snapshot` in force.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(snapshot);
        self.published.send_modify(|count| *count += 1);
    }

    /// Says that what is published is whole.
    pub fn set_whole(&self) {
        self.whole.send_replace(true);
    }

    /// Whether what is published is whole, now and later.
    pub fn whole(&self) -> watch::Receiver<bool> {
        self.whole.subscribe()
    }

    /// Says that this edge knows what the others know of sessions, as far as they could be asked.
    pub fn set_recalled(&self) {
        self.recalled.store(true, Ordering::Release);
    }

    /// Whether the edge may take traffic.
    pub fn is_ready(&self) -> bool {
        *self.whole.borrow() && self.recalled.load(Ordering::Acquire)
    }

    /// Notes that a control plane spoke, in seconds since the Unix epoch. Never moves back.
    pub fn heard(&self, unix_s: u64) {
        self.heard_at.fetch_max(unix_s, Ordering::Relaxed);
    }

    /// When a control plane was last heard, in seconds since the Unix epoch; 0 for never.
    pub fn heard_at(&self) -> u64 {
        self.heard_at.load(Ordering::Relaxed)
    }

    /// Seconds until bearers are no longer believed; negative once they are not.
    pub fn trust_remaining(&self, now_unix_s: u64) -> i64 {
        let max_age = self.snapshot.load().trust.max_age.as_secs();
        let until = self.heard_at().saturating_add(max_age);
        i64::try_from(until).unwrap_or(i64::MAX).saturating_sub_unsigned(now_unix_s)
    }

    /// Whether bearers may be believed: past the trust bundle's `max_age` without a word from a control
    /// plane, a revocation may have been missed, and none is.
    pub fn bearers_are_believed(&self, now_unix_s: u64) -> bool {
        let max_age = self.snapshot.load().trust.max_age.as_secs();
        now_unix_s.saturating_sub(self.heard_at()) <= max_age
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Trust;
    use std::time::Duration;

    #[test]
    fn publishing_moves_what_is_loaded_and_tells_subscribers() {
        let current = Current::new();
        let mut moved = current.subscribe();
        assert!(!current.is_ready());
        current.set_whole();
        assert!(!current.is_ready());
        current.set_recalled();
        assert!(current.is_ready());
        current.publish(Arc::new(Snapshot { revision: 7, ..Snapshot::default() }));
        assert_eq!(current.load().revision, 7);
        assert!(moved.has_changed().unwrap());
        assert_eq!(*moved.borrow_and_update(), 1);
    }

    #[test]
    fn bearers_are_believed_for_max_age_after_the_last_word() {
        let current = Current::new();
        let trust = Trust { max_age: Duration::from_secs(60), ..Trust::default() };
        current.publish(Arc::new(Snapshot { trust: Arc::new(trust), ..Snapshot::default() }));
        assert!(!current.bearers_are_believed(1_000), "never heard");
        current.heard(1_000);
        current.heard(900);
        assert!(current.bearers_are_believed(1_060));
        assert!(!current.bearers_are_believed(1_061));
        assert!(current.bearers_are_believed(990), "a clock that was set back");
    }
}
