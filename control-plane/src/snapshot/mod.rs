//! What edges see: the registry projected to `edge.v1`, as one immutable world per revision.
//!
//! It must not know streams, edges or services.

mod entries;
mod freshness;
mod project;
mod publisher;
pub mod world;

pub use freshness::Freshness;
pub use project::Projector;
pub(crate) use publisher::open_secret;
pub use publisher::{PublishError, Publisher};
