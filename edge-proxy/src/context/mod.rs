//! The state that the stages of the pipeline work on: of the edge, of a worker thread, of one request.
//!
//! It must not know the order of the stages.

mod active_calls;
mod authenticated;
mod edge;
mod permits;
mod request;
mod session_events;
mod worker;

pub use active_calls::CallStream;
pub(crate) use active_calls::{ActiveCall, watch};
pub use authenticated::Authenticated;
pub use edge::EdgeState;
pub use permits::{InFlightPermit, StreamCounts, StreamPermit, StreamPermits};
pub use request::{Arrival, RequestContext};
pub use worker::WorkerState;
