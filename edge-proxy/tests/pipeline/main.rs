//! The pipeline of a call, over real sockets: raw clients on one side, recording upstreams on the other.
#![allow(clippy::unwrap_used)]

mod access;
mod affinity;
mod calls;
mod channels;
mod egress;
mod eras;
mod fleet;
mod fuzz;
mod handles;
mod healing;
mod hostile;
mod legacy;
mod lists;
mod modern;
mod modern_websocket;
mod odd_clients;
mod odd_messages;
mod own_uris;
mod quotes;
mod redirects;
mod relayed;
mod reuse;
mod rotation;
mod server_streams;
mod sessions;
mod shares;
mod sse;
mod streams;
mod support;
mod tasks;
mod upstream_requests;
mod websocket;
mod withdrawn;
