//! The edge: terminates MCP, enforces scopes and calls upstreams, from a snapshot it holds in memory.
//!
//! In reading order: `listener` accepts, `pipeline` is the whole road of a call, `transport` turns bytes
//! into messages, `authn` says who is calling, `session` which conversation it is, `route` where it leads,
//! `policy` whether it may, `upstream` calls, `reply` answers. `snapshot` is what all of them know.
//! Only `app` wires; nobody imports it.

pub mod admin;
mod clock;
pub mod config;
pub mod enroll;
mod files;
mod identity;
pub mod observe;
pub mod snapshot;
pub mod usage;
