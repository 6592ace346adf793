//! The edge: terminates MCP, enforces scopes and calls upstreams, from a snapshot it holds in memory.
//!
//! In reading order: `listener` accepts, `pipeline` is the whole road of a call, `transport` turns bytes
//! into messages, `authn` says who is calling, `session` which conversation it is, `route` where it leads,
//! `policy` whether it may, `upstream` calls, `reply` answers. `local`, `list`, `listen` and `batch` are what
//! the edge does by itself; `duplex` carries what is said on a connection along the same road; `held` and `peers` lead what only one edge has to that edge. `snapshot` is what all of them know; `worker` and `scene` hold what they share.
//! Only `app` wires; nobody imports it.

pub mod account;
mod active_calls;
pub mod admin;
pub mod advertise;
pub mod app;
pub mod authn;
pub mod builtin;
mod clock;
pub mod config;
pub mod duplex;
pub mod ended;
pub mod enroll;
pub mod error;
mod files;
pub mod held;
mod identity;
pub mod listener;
pub mod observe;
pub mod peers;
pub mod policy;
pub mod request;
pub mod respond;
pub mod route;
pub mod scene;
pub mod session;
pub mod snapshot;
pub mod streams;
pub mod transport;
pub mod tunnels;
pub mod upstream;
pub mod usage;
pub mod worker;
