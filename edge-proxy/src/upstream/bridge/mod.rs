//! Calls across the eras: a modern client's at a legacy upstream, and a legacy client's at a modern one.
//!
//! It must not know how the client is spoken to. Where both eras say a thing alike, the modules around this one do it.

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

/// What a client is told whose params cannot be taken apart.
fn unreadable(error: JsonError) -> CallError {
    CallError::Client(Failure::params(format!("params: {error}")))
}
