//! Upstreams that speak MCP: both eras, over every transport, and the translation of their messages.
//!
//! It must not know how the client is spoken to.

mod call_tasks;
mod channel;
mod detached;
mod in_flight;
mod input_requests;
pub(super) mod legacy_on_modern;
mod message_source;
pub(super) mod modern_on_legacy;
mod reconnect;
mod relayed_stream;
mod request_state;
mod response;
mod resume;
mod resumption_token;
mod rewrite;
pub(super) mod same_legacy;
pub(super) mod same_modern;
mod server_requests;
mod session;
mod session_messages;
mod subscription;
mod task;
mod translate;
mod translation;
mod upstream_stream;

use mcp::json::JsonError;

pub(super) use self::in_flight::InFlightCall;
pub use self::in_flight::SessionCommand;
pub(super) use self::relayed_stream::RelayedStream;
pub use self::resume::{Resumption, resume};
pub use self::server_requests::{ServerRequestId, answer};
pub(super) use self::session::{SessionKey, SessionPool};
pub use self::subscription::{SubscriptionNotice, SubscriptionTargets, UpstreamSubscription};
pub use self::task::Task;
pub(super) use self::upstream_stream::UpstreamStream;
use super::call::CallError;
use crate::error::Failure;

/// Returns the error of params that cannot be parsed.
fn unreadable(error: JsonError) -> CallError {
    CallError::Client(Failure::params(format!("params: {error}")))
}
