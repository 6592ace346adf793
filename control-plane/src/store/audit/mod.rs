//! The audit log: what was done and refused, as a chain of records, each with a hash over itself and the one before it.
//!
//! Changes are recorded in the transaction that makes them ([`changes`]); everything else is appended in batches. It must not know who
//! reads it, nor how it is sealed.

mod author;
mod chain;
mod changes;
mod people;
mod retention;
mod sealing;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use inbound::LineLimit;

pub use author::{Author, CONTROL_PLANE};
pub(super) use chain::append_to;
pub use chain::{AuditHead, FIRST_HASH, StoredRecord, TableEnd};
pub(super) use changes::Changes;
pub use changes::Deed;
pub use retention::Cut;
pub use table::{AuditQuery, StoredSeal};

/// Whoever writes while the log cannot be written must not fill the other log.
static FAILURES: LineLimit<()> = LineLimit::new();

/// How well the audit log can be written, for the whole process.
#[derive(Debug, Default)]
pub struct AuditHealth {
    /// A change that cannot be recorded fails.
    fails_closed: AtomicBool,
    /// Records that could not be written.
    dropped: AtomicU64,
    /// Those of them that no record says yet.
    unsaid: AtomicU64,
}

impl AuditHealth {
    /// Lets changes fail that cannot be recorded.
    pub fn fail_closed(&self) {
        self.fails_closed.store(true, Ordering::Relaxed);
    }

    /// The records that this process could not write.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Counts records that cannot be written, and says so.
    pub fn count_dropped(&self, records: u64, reason: &dyn std::fmt::Display) {
        self.dropped.fetch_add(records, Ordering::Relaxed);
        self.unsaid.fetch_add(records, Ordering::Relaxed);
        if let Some(times) = FAILURES.count(()) {
            tracing::error!(records, %reason, times, "cannot write the audit log");
        }
    }

    pub(super) fn fails_closed(&self) -> bool {
        self.fails_closed.load(Ordering::Relaxed)
    }

    /// Takes what is to be said of records that are missing. It is said again where that is not stored.
    fn claim(self: &Arc<Self>) -> GapClaim {
        GapClaim { health: self.clone(), records: self.unsaid.swap(0, Ordering::Relaxed) }
    }
}

/// Records that are missing, which a record that is not stored yet says.
#[derive(Debug)]
pub(super) struct GapClaim {
    health: Arc<AuditHealth>,
    records: u64,
}

impl GapClaim {
    pub(super) fn said(mut self) {
        self.records = 0;
    }
}

impl Drop for GapClaim {
    fn drop(&mut self) {
        self.health.unsaid.fetch_add(self.records, Ordering::Relaxed);
    }
}
