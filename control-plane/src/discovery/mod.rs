//! The stream to edges: what each edge has, what it must be sent, and what it made of it.
//!
//! It must not know how the snapshot is made.

mod announcement;
pub mod authenticate;
pub mod enrollment;
pub mod enrollment_counters;
mod enrollment_watch;
pub mod fleet;
pub mod fleet_service;
mod join_tokens;
mod page;
mod rollout;
pub mod roster;
pub mod service;
mod usage_bounds;
pub mod usage_service;
