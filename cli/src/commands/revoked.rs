//! Tokens that were revoked: that is for good, whatever else is done to them.

use prost_reflect::DynamicMessage;

use crate::error::{Error, Exit};
use crate::kinds::short_name;
use crate::output;
use crate::reflection;

/// The reason of the control plane where one is to be created that was revoked.
const TOKEN_REVOKED: &str = "TOKEN_REVOKED";

/// Says of a token that it stays revoked, if it is.
pub fn warn(token: &DynamicMessage) {
    if reflection::submessage(token, "revoke_time").is_some() {
        output::eprint(format!("warning: {}", advice(&reflection::text(token, "name"))));
    }
}

/// The same of one that is in files, and would come back with the next apply once it is deleted.
pub fn warn_in_files(token: &DynamicMessage) {
    if reflection::submessage(token, "revoke_time").is_some() {
        let advice = advice(&reflection::text(token, "name"));
        output::eprint(format!("warning: {advice}, or take it out of the files"));
    }
}

/// Says what to do where a token is to be created that was revoked.
pub fn explain(error: Error) -> Error {
    match error.refusal.as_deref() {
        Some(refusal) if refusal.reason == TOKEN_REVOKED => Error::new(Exit::Conflict, advice(&refusal.name)),
        _ => error,
    }
}

fn advice(name: &str) -> String {
    let id = short_name(name);
    format!("{name} is revoked for good; to have a token of this name, run `mcpctl delete token {id}` first")
}
