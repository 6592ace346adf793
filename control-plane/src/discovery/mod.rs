//! The stream to edges: what each edge has, what it must be sent, and what it made of it.
//!
//! It must not know how the snapshot is made.

mod announcement;
mod audit_bounds;
pub mod audit_service;
pub mod authenticate;
mod edge_counts;
mod edge_stream;
pub mod enrollment;
pub mod enrollment_counters;
mod enrollment_lookup;
mod enrollment_watch;
pub mod fleet;
pub mod fleet_service;
mod fleet_writer;
mod join_tokens;
mod limit_buckets;
pub mod limit_service;
pub mod page;
mod rate_parts;
mod rate_shares;
mod refusals_seen;
mod rollout;
pub mod roster;
pub mod service;
pub mod stream_admission;
pub mod stream_codec;
mod usage_bounds;
pub mod usage_service;
