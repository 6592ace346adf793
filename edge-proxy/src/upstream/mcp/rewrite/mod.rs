//! What is changed in messages, as functions over bytes: members are spliced in or out, every other byte stays.
//!
//! It must not know calls.

pub(super) mod content;
pub(super) mod requests;
pub(super) mod results;
