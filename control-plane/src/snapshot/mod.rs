//! The edges' view: the registry projected to `edge.v1`, as one immutable snapshot per revision.
//!
//! It must not know streams, edges or services.

pub mod content;
mod database_health;
mod edge_messages;
mod excerpt;
mod grants;
mod holders;
mod projector;
mod publisher;
mod rules;
mod world;

pub use database_health::DatabaseHealth;
pub use excerpt::excerpt;
pub use holders::Owner;
pub use projector::{Projector, leads_to};
pub(crate) use publisher::open_secret;
pub use publisher::{PublishError, Publisher};
pub use world::{Meant, Published};
