//! What edges see: the registry projected to `edge.v1`, as one immutable world per revision.
//!
//! It must not know streams, edges or services.

pub mod world;
