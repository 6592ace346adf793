//! Detects that the far side of a tunnel is gone. It must not know about streams.

use std::io;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

use crate::KEEP_ALIVE;

/// Pings forever; resolves when there was no answer in time, or the tunnel ended.
pub(crate) async fn watch(mut ping_pong: PingPong) -> io::Error {
    loop {
        sleep(KEEP_ALIVE).await;
        match timeout(KEEP_ALIVE, ping_pong.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return io::Error::other(error),
            Err(_) => {
                return io::Error::new(io::ErrorKind::TimedOut, "the other side does not respond to pings");
            }
        }
    }
}
