//! What an operator sees from outside: logs and metrics.
//!
//! Everybody counts here; it must not know who.

mod exporter;
mod logs;
mod metrics;

pub use exporter::{ExportError, Exporter, InForce};
pub use logs::{LogError, start_logs};
pub use metrics::{
    Calls, Counter, Ending, Entered, Gauge, Metrics, PeerDelivery, Rejection, Transport, UpstreamFault,
};
