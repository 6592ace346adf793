//! The stream to edges: what each edge has, what it must be sent, and what it made of it.
//!
//! It must not know how the snapshot is made.

pub mod authenticate;
pub mod enrollment;
pub mod fleet;
pub mod fleet_service;
mod rollout;
pub mod roster;
pub mod service;
pub mod usage_service;
