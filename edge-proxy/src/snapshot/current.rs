//! The snapshot in force, published atomically, and the last contact with a control plane.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::Snapshot;

/// The snapshot in force. Loading it takes no lock.
#[derive(Debug)]
pub struct Current {
    snapshot: ArcSwap<Snapshot>,
    published: watch::Sender<u64>,
    complete: watch::Sender<bool>,
    synced: watch::Sender<bool>,
    last_contact: AtomicU64,
}

impl Default for Current {
    fn default() -> Self {
        Current {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            published: watch::Sender::new(0),
            complete: watch::Sender::new(false),
            synced: watch::Sender::new(false),
            last_contact: AtomicU64::new(0),
        }
    }
}

impl Current {
    /// Creates an empty snapshot, which no request is served from.
    pub fn new() -> Current {
        Current::default()
    }

    /// Returns the snapshot in force. A request calls this once and keeps the result.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Returns the snapshot in force, for those that keep it long.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Watches publications: the number moves whenever another snapshot is in force.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Puts `snapshot` in force.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(snapshot);
        self.published.send_modify(|count| *count += 1);
    }

    /// Notes that the published snapshot is complete.
    pub fn set_complete(&self) {
        self.complete.send_replace(true);
    }

    /// Watches whether the published snapshot is complete.
    pub fn complete(&self) -> watch::Receiver<bool> {
        self.complete.subscribe()
    }

    /// Notes that this edge has synced sessions from the siblings that it could reach.
    pub fn set_synced(&self) {
        self.synced.send_replace(true);
    }

    /// Returns whether the edge may take traffic.
    pub fn is_ready(&self) -> bool {
        *self.complete.borrow() && *self.synced.borrow()
    }

    /// Waits until the edge may take traffic.
    pub async fn ready(&self) {
        let (mut complete, mut synced) = (self.complete.subscribe(), self.synced.subscribe());
        // Neither sender goes before `self`.
        let _ = complete.wait_for(|complete| *complete).await;
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// Notes a message of a control plane, in seconds since the Unix epoch. Never moves back.
    pub fn note_contact(&self, unix_s: u64) {
        self.last_contact.fetch_max(unix_s, Ordering::Relaxed);
    }

    /// The time of the last contact with a control plane, in seconds since the Unix epoch; 0 for never.
    pub fn last_contact(&self) -> u64 {
        self.last_contact.load(Ordering::Relaxed)
    }

    /// Counts the seconds until bearers are no longer believed; negative once they are not.
    pub fn trust_remaining(&self, now_unix_s: u64) -> i64 {
        let max_age = self.snapshot.load().trust.max_age.as_secs();
        let until = self.last_contact().saturating_add(max_age);
        i64::try_from(until).unwrap_or(i64::MAX).saturating_sub_unsigned(now_unix_s)
    }

    /// Returns whether bearers may be believed: past the trust bundle's `max_age` without contact with a control plane,
    /// a revocation may have been missed, and no bearer is.
    pub fn is_trust_fresh(&self, now_unix_s: u64) -> bool {
        let max_age = self.snapshot.load().trust.max_age.as_secs();
        now_unix_s.saturating_sub(self.last_contact()) <= max_age
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
        let mut published = current.subscribe();
        assert!(!current.is_ready());
        current.set_complete();
        assert!(!current.is_ready());
        current.set_synced();
        assert!(current.is_ready());
        current.publish(Arc::new(Snapshot { revision: 7, ..Snapshot::default() }));
        assert_eq!(current.load().revision, 7);
        assert!(published.has_changed().unwrap());
        assert_eq!(*published.borrow_and_update(), 1);
    }

    #[test]
    fn bearers_are_believed_for_max_age_after_the_last_word() {
        let current = Current::new();
        let trust = Trust { max_age: Duration::from_secs(60), ..Trust::default() };
        current.publish(Arc::new(Snapshot { trust: Arc::new(trust), ..Snapshot::default() }));
        assert!(!current.is_trust_fresh(1_000), "never heard");
        current.note_contact(1_000);
        current.note_contact(900);
        assert!(current.is_trust_fresh(1_060));
        assert!(!current.is_trust_fresh(1_061));
        assert!(current.is_trust_fresh(990), "a clock that was set back");
    }
}
