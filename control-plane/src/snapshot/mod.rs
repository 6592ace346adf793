//! The edges' view: the registry projected to `edge.v1`, as one immutable snapshot per revision.
//!
//! It must not know streams, edges or services.

pub mod content;
mod database_health;
mod edge_messages;
mod projector;
mod publisher;

pub use database_health::DatabaseHealth;
pub use projector::Projector;
pub(crate) use publisher::open_secret;
pub use publisher::{PublishError, Publisher};
