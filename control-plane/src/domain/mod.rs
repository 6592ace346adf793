//! The registry's decisions, as pure functions over the messages of the contract: no async, no IO, no SQL.

mod argument_shape;
pub mod catalogue;
pub mod conditions;
pub mod credential;
pub mod definition;
mod entry_state;
pub mod exposed;
pub mod filter;
pub mod kind;
mod kinds;
pub mod mask;
mod masked_fields;
pub mod members;
pub mod meta;
pub mod names;
pub mod nearest;
mod overlap;
pub mod page;
pub mod principal;
mod prompt;
pub mod reflect;
mod resource;
mod role;
pub mod rule;
pub mod scope;
pub mod secret_reference;
mod server;
mod server_names;
mod server_state;
mod steps;
mod surroundings;
mod team;
pub mod token;
mod tool;
pub mod upstream;
pub mod upstream_status;
pub mod violation;

pub use catalogue::Catalogue;
pub use kind::{Kind, KindMessage, KindRules, Reference, SeesPeople};
pub(crate) use kinds::each_kind;
pub use steps::Steps;
pub use surroundings::{LastUse, People, Surroundings};
pub use violation::{Violation, Violations};

#[cfg(test)]
mod tests;
