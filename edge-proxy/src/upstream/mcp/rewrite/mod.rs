//! What is changed in messages, as functions over bytes: members are spliced in or out, every other byte stays.
//!
//! It must not know calls.

pub(super) mod content;
pub(super) mod masks;
pub(super) mod notifications;
pub(super) mod own_uris;
mod plain_members;
pub(super) mod requests;
pub(super) mod responses;
pub(super) mod results;
pub(super) mod tasks;
pub(super) mod uris;

use bytes::Bytes;
use mcp::splice::Splice;

/// Applies edits to a message, which is returned as it is where there are none.
pub(super) fn apply(edits: Splice<'_>, message: &Bytes) -> Bytes {
    if edits.is_empty() { message.clone() } else { edits.apply(message) }
}
