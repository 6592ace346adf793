//! Whether the far side of a tunnel is there. It must not know what else goes on.

use std::io;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

use crate::KEEP_ALIVE;

/// Asks again and again; resolves when there was no answer in time, or the tunnel ended.
pub(crate) async fn watch(mut ping_pong: PingPong) -> io::Error {
    loop {
        sleep(KEEP_ALIVE).await;
        match timeout(KEEP_ALIVE, ping_pong.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return io::Error::other(error),
            Err(_) => return io::Error::new(io::ErrorKind::TimedOut, "the far side gives no sign of life"),
        }
    }
}
