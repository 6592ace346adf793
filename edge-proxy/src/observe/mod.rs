//! What an operator sees from outside: logs and metrics.
//!
//! Everybody counts here; it knows nobody.

mod metrics;

pub use metrics::{Counter, Entered, Gauge, Metrics, Rejection, UpstreamFault};
