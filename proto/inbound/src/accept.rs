//! Accepts connections, and never waits for a place: whoever connects is let in, or another is told to go.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};

use crate::connections::{Connection, Connections};
use crate::line_limit::LineLimit;

/// The pause after an accept that failed for another reason than the peer: mostly there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(20);

/// Whoever connects often enough causes such lines.
static FAILURES: LineLimit<String> = LineLimit::new();

/// Accepts the next connection. Safe to cancel.
pub async fn accept(
    listener: &TcpListener,
    connections: &Connections,
) -> (TcpStream, SocketAddr, Connection) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => match connections.open(address.ip()) {
                Ok(connection) => return (stream, address, connection),
                Err(error) => tracing::debug!(%address, %error, "refused a connection"),
            },
            Err(error) if is_of_peer(&error) => {}
            Err(error) => {
                if let Some(times) = FAILURES.count(error.to_string()) {
                    tracing::warn!(%error, times, "cannot accept a connection");
                }
                if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)) {
                    connections.evict_oldest();
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Returns whether an accept failed because the client is gone already.
fn is_of_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// Raises the number of files that this process may open to the maximum that it is allowed. Returns it; `None` if there
/// is no limit.
pub fn raise_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "cannot raise the limit of open files");
            limit.current
        }
    }
}

/// Lowers a number of connections to what the limit of open files leaves room for: three quarters of them, because
/// upstreams, databases and logs need some as well.
pub fn within_file_limit(max_connections: usize) -> usize {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    files.map_or(max_connections, |files| max_connections.min(files - files / 4))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::connections::{CloseReason, ConnectionHolder};
    use crate::table::ConnectionLimits;

    #[tokio::test]
    async fn a_newcomer_does_not_wait_where_every_place_is_taken() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::new(ConnectionLimits::authenticated(2, 10, Vec::new()), None);
        let mut clients = Vec::new();
        let mut next = async || {
            clients.push(TcpStream::connect(address).await.unwrap());
            let (_, from, connection) = accept(&listener, &connections).await;
            assert_eq!(from, clients.last().unwrap().local_addr().unwrap());
            connection
        };
        // One place is kept for those who authenticate.
        let (stranger, known) = (next().await, next().await);
        assert_eq!(stranger.must_close().await, CloseReason::Evicted);
        drop(stranger);
        known.handle().set_authenticated(ConnectionHolder::kept(0)).unwrap();
        let last = next().await;
        last.handle().set_authenticated(ConnectionHolder::kept(0)).unwrap();
        // Nobody may be evicted now: who comes is closed at once.
        let mut refused = TcpStream::connect(address).await.unwrap();
        tokio::select! {
            _ = accept(&listener, &connections) => panic!("there is no place"),
            read = refused.read_u8() => assert!(read.is_err()),
        }
        drop(last);
        next().await;
    }

    #[test]
    fn connections_are_within_the_limit_of_files() {
        raise_file_limit();
        assert_eq!(within_file_limit(1), 1);
        let files = getrlimit(Resource::Nofile).current;
        if let Some(files) = files.and_then(|files| usize::try_from(files).ok()) {
            assert_eq!(within_file_limit(files + 1), files - files / 4);
        }
    }
}
