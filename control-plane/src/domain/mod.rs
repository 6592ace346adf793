//! What the registry decides, as pure functions over the messages of the contract: no async, no IO, no SQL.

pub mod kind;
pub mod names;
pub mod violation;

pub use kind::{Kind, Noun, Reference};
pub use violation::{Violation, Violations};
