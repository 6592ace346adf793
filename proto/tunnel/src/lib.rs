//! Byte streams through a connection that the far side opened: how a gateway reaches a server that it cannot dial.
//!
//! The side that dialled accepts streams, and the side that was dialled opens them. It is HTTP/2 with the parts
//! exchanged, each stream a CONNECT (RFC 9113 §8.5), carried in the binary frames of a WebSocket, which proxies and
//! load balancers let through. It must not know what streams carry, nor who may open a tunnel. Neither side trusts the
//! other with its memory, or with the time of others.

mod accept;
mod budget;
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
/// The `aud` of the credential that opens a tunnel (RFC 7519 §4.1.3).
pub const AUDIENCE: &str = "trunkline-tunnels";
/// The largest frame of that WebSocket, in bytes.
pub const MAX_FRAME: usize = 1 << 20;
/// The path of the request, not a CONNECT, by which the side that was dialled says that it is about to stop. Whoever does not know it
/// refuses it, and nothing else happens.
const DRAINING: &str = "/draining";
/// Bytes that the WebSocket reads at a time, which may be many frames: tokio lets others have their turn after 128 reads.
pub const READ_BUFFER: usize = 16 << 10;

/// Interval of each side's pings, and the longest wait for an answer. They also keep proxies from closing the
/// connection as idle.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Streams in one tunnel at a time.
const MAX_STREAMS: usize = 1_024;
/// Unread bytes in one stream, and in a whole tunnel: streams that are not read hold up no other.
const STREAM_WINDOW: u32 = 128 << 10;
const TUNNEL_WINDOW: u32 = STREAM_WINDOW * 1_024;
