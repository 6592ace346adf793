//! Byte streams through a connection that the far side opened: how a gateway reaches a server that it cannot dial.
//!
//! Whoever dialled accepts streams, and whoever was dialled opens them. It is HTTP/2 with the parts exchanged, each stream
//! a CONNECT (RFC 9113 §8.5), carried in the binary frames of a WebSocket, which proxies and load balancers let through.
//! It must not know what streams carry, nor who may open a tunnel. Neither side trusts the other with its memory.

mod accept;
mod carrier;
mod keepalive;
mod open;
mod stream;
mod tunnels;

use std::time::Duration;

pub use accept::accept;
pub use carrier::{carrier, websocket};
pub use open::Tunnel;
pub use stream::Stream;
pub use tokio_tungstenite::tungstenite::protocol::Role;
pub use tunnels::{Full, Registration, Tunnels};

/// The subprotocol of the WebSocket that carries a tunnel.
pub const SUBPROTOCOL: &str = "trunkline.tunnel.v1";
/// Who may open a tunnel: `aud` of the credential (RFC 7519 §4.1.3).
pub const AUDIENCE: &str = "trunkline-tunnels";
/// The largest frame of that WebSocket, in bytes.
pub const MAX_FRAME: usize = 1 << 20;

/// How often each side asks whether the other is there, and how long it waits for the answer. It also keeps what stands
/// between them from taking the connection for unused.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Streams in one tunnel at a time.
const MAX_STREAMS: usize = 1_024;
/// What may be on its way in one stream before its reader has read it, and in a whole tunnel: streams that nobody reads hold up
/// no other.
const STREAM_WINDOW: u32 = 128 << 10;
const TUNNEL_WINDOW: u32 = STREAM_WINDOW * 1_024;
