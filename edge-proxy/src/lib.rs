//! The edge: terminates MCP, enforces scopes and calls upstreams, from a snapshot that it holds in memory.
//!
//! In the order of a call: `listener` accepts, `request` is the pipeline, `transport` turns bytes into messages, `identity`
//! finds the caller, `session` the conversation, `route` the target, `policy` the permit, `limits` what is left for it,
//! `approvals` asks whether it is approved where a rule wants that, `upstream` calls, `respond` answers, `audit` records what was refused. `builtin` is what the edge answers itself; `connection` serves connections on which both sides speak;
//! `fleet` reaches the other edges, `tunnels` the upstreams that dial in. `snapshot` is what the edge knows, `context`
//! the state that the stages share. Only `app` wires; nobody imports it.

pub mod admin;
pub mod app;
pub mod approvals;
pub mod audit;
pub mod builtin;
mod collections;
pub mod config;
pub mod connection;
pub mod context;
pub mod delivery;
pub mod enrollment;
pub mod error;
pub mod fleet;
pub mod identity;
pub mod limits;
pub mod listener;
pub mod observe;
mod os;
pub mod policy;
pub mod request;
pub mod respond;
pub mod route;
pub mod session;
pub mod snapshot;
pub mod transport;
pub mod tunnels;
pub mod upstream;
pub mod usage;
