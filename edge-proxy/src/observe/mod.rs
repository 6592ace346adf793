//! Logs and metrics for operators. Calls are counted in `usage`, whose reporter adds them to the counters here.
//!
//! It must not know what it counts.

mod exporter;
mod logs;
mod metrics;

pub use exporter::{ExportError, Exporter, Inbound, SnapshotReaders};
pub use logs::{LogError, start_logs};
pub use metrics::{
    ApprovalOutcome, Bound, Calls, CloseReason, ConnectionTransport, Counter, DeliveryOutcome, Gauge,
    GaugeGuard, LimitRefusal, Metrics, Rejection, UpstreamFault,
};
