//! What is counted of approvals at this replica.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What is counted of approvals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalEvent {
    /// One was asked for.
    Asked,
    /// None could be asked for, because too many wait.
    Crowded,
    /// Somebody approved one.
    Approved,
    /// Somebody denied one.
    Denied,
    /// The call was made.
    Used,
    /// The call was not made after all.
    Returned,
    /// One ended without being used.
    Expired,
}

/// What is counted of webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookEvent {
    /// One was taken at the other end.
    Delivered,
    /// One was not; it is tried again.
    Failed,
    /// One is not tried again.
    GivenUp,
    /// One that came decided something.
    Taken,
    /// One that came was refused.
    Refused,
}

/// The counters.
#[derive(Debug, Default)]
pub struct ApprovalCounters {
    events: [AtomicU64; 7],
    webhooks: [AtomicU64; 5],
    pending: AtomicI64,
}

impl ApprovalEvent {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Asked, "asked"),
        (Self::Crowded, "crowded"),
        (Self::Approved, "approved"),
        (Self::Denied, "denied"),
        (Self::Used, "used"),
        (Self::Returned, "returned"),
        (Self::Expired, "expired"),
    ];
}

impl WebhookEvent {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Delivered, "delivered"),
        (Self::Failed, "failed"),
        (Self::GivenUp, "given-up"),
        (Self::Taken, "taken"),
        (Self::Refused, "refused"),
    ];
}

impl ApprovalCounters {
    /// Counts so many.
    pub fn add(&self, event: ApprovalEvent, count: u64) {
        self.events[event as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Counts a webhook.
    pub fn count(&self, event: WebhookEvent) {
        self.webhooks[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how many wait, at all replicas.
    pub fn set_pending(&self, count: i64) {
        self.pending.store(count, Ordering::Relaxed);
    }

    /// How many wait.
    pub fn pending(&self) -> i64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// What became of approvals, by word.
    pub fn events(&self) -> Vec<(&'static str, u64)> {
        let read =
            |(event, word): (ApprovalEvent, _)| (word, self.events[event as usize].load(Ordering::Relaxed));
        ApprovalEvent::ALL.map(read).into()
    }

    /// What became of webhooks, by word.
    pub fn webhooks(&self) -> Vec<(&'static str, u64)> {
        let read =
            |(event, word): (WebhookEvent, _)| (word, self.webhooks[event as usize].load(Ordering::Relaxed));
        WebhookEvent::ALL.map(read).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_has_its_place() {
        let counters = ApprovalCounters::default();
        for (event, _) in ApprovalEvent::ALL {
            counters.add(event, 1);
        }
        for (event, _) in WebhookEvent::ALL {
            counters.count(event);
        }
        let counted = counters.events().into_iter().chain(counters.webhooks());
        assert!(counted.map(|(_, count)| count).all(|count| count == 1));
    }
}
