//! The registry's decisions, as pure functions over the messages of the contract: no async, no IO, no SQL.

pub mod catalogue;
pub mod credential;
pub mod definition;
pub mod exposed;
pub mod filter;
pub mod glob;
pub mod kind;
mod kinds;
pub mod mask;
pub mod members;
pub mod meta;
pub mod names;
mod overlap;
pub mod page;
mod prompt;
pub mod reflect;
mod resource;
mod server;
mod token;
mod tool;
pub mod upstream;
pub mod violation;

pub use catalogue::Catalogue;
pub use kind::{Kind, KindMessage, KindRules, Reference};
pub(crate) use kinds::each_kind;
pub use violation::{Violation, Violations};
