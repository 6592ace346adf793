//! The control plane: the registry of upstreams, servers and tokens, and its snapshot stream to edges.
//!
//! In reading order: `api` speaks, `domain` decides, `store` remembers; `snapshot` projects what is stored
//! for edges, `discovery` publishes it; `sync` asks upstreams for their catalogues,
//! through `tunnels` those that cannot be dialled; `references` reads secrets that are kept elsewhere; `rights` is what somebody may do,
//! `auth` is proof, `audit` is what is known of it later, `approvals` are calls that wait until somebody approves them.
//! `app` wires them, and nobody imports `app`.

pub mod api;
pub mod app;
pub mod approvals;
pub mod audit;
pub mod auth;
pub mod clock;
pub mod config;
pub mod discovery;
pub mod domain;
pub mod error;
mod importers;
mod listener;
pub mod observe;
pub mod references;
pub mod rights;
pub mod snapshot;
pub mod store;
pub mod sync;
pub mod tunnels;
