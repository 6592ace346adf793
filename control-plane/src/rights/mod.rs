//! Rights: permissions, the roles that hold them, and what somebody may do who has some. Pure.
//!
//! It must not know how anybody proved who they are, nor where roles and memberships are kept.

pub mod giving;
pub mod grant_id;
mod held;
pub mod permission_set;
pub mod roles;
pub mod transfer;

pub use held::{ADMINISTRATOR, HeldRole, Ownership, Rights};
