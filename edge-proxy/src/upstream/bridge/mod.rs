//! Bridges the eras: calls of modern clients at legacy upstreams, and of legacy clients at modern ones.
//!
//! It must not know how the client is spoken to. Messages that both eras share are translated by the modules around
//! this one.

mod input_requests;
mod legacy_on_modern;
mod modern_on_legacy;
mod requests;
mod results;
mod translate;

use mcp::json::JsonError;

pub(super) use self::input_requests::{InputRequired, ServerRequest};
pub(super) use self::legacy_on_modern::call as call_of_legacy;
pub(super) use self::modern_on_legacy::{PendingRequests, call as call_of_modern, call_about_task, park};
pub(super) use self::translate::translate;
use super::call::CallError;
use crate::error::Failure;

/// Returns the error of params that cannot be parsed.
fn unreadable(error: JsonError) -> CallError {
    CallError::Client(Failure::params(format!("params: {error}")))
}
