//! Calls across the eras: a modern client's at a legacy upstream, and a legacy client's at a modern one.
//!
//! It must not know how the client is spoken to. Where both eras say a thing alike, the modules around this one do it.

mod driven;
mod handed;
mod hold;
mod legacy_client;
mod modern_client;
mod park;
mod parked;
mod questions;
mod requests;
mod results;
mod retry;
mod rounds;
mod turn;

use mcp::json::JsonError;

pub(super) use self::handed::call as call_about_task;
pub(super) use self::legacy_client::call as call_of_legacy;
pub(super) use self::modern_client::call as call_of_modern;
pub(super) use self::park::{Questions, park};
pub(super) use self::questions::{Input, Question};
pub(super) use self::turn::turn;
use super::call::CallError;
use crate::error::Failure;

/// What a client is told whose params cannot be taken apart.
fn unreadable(error: JsonError) -> CallError {
    CallError::Client(Failure::params(format!("params: {error}")))
}
