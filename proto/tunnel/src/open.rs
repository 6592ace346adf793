//! The side that was dialled, and opens streams.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{Method, Request, Uri, uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{DRAINING, MAX_STREAMS, STREAM_WINDOW, Stream, TUNNEL_WINDOW, keepalive};

/// CONNECT needs an authority; the other side serves one thing only and does not look at it.
const AUTHORITY: &str = "tunnel:80";

/// A tunnel that the far side dialled. Cheap to clone; it ends with its driver.
#[derive(Debug, Clone)]
pub struct Tunnel {
    sender: SendRequest<Bytes>,
    /// One permit for each stream that the far side allows.
    slots: Arc<Semaphore>,
    ended: CancellationToken,
}

impl Tunnel {
    /// Starts a tunnel on a connection. The second value is its driver: it moves all bytes, and resolves when the
    /// tunnel has ended, with an error of the carrier as it was. When it is dropped, the connection and every stream end.
    ///
    /// # Errors
    /// When the connection breaks at once.
    pub async fn start(
        carrier: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> io::Result<(Self, impl Future<Output = io::Error> + Send)> {
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(TUNNEL_WINDOW)
            .enable_push(false)
            .handshake::<_, Bytes>(carrier)
            .await;
        let (sender, mut connection) = handshake.map_err(io::Error::other)?;
        let ping_pong = connection.ping_pong().ok_or_else(|| io::Error::other("pings are in use already"))?;
        let ended = CancellationToken::new();
        let tunnel = Self { sender, slots: Arc::new(Semaphore::new(MAX_STREAMS)), ended: ended.clone() };
        let guard: DropGuard = ended.drop_guard();
        let driver = async move {
            let _guard = guard;
            tokio::select! {
                ended = connection => match ended {
                    Ok(()) => io::ErrorKind::ConnectionAborted.into(),
                    Err(error) if error.is_io() => {
                        error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
                    }
                    Err(error) => io::Error::other(error),
                },
                silent = keepalive::watch(ping_pong) => silent,
            }
        };
        Ok((tunnel, driver))
    }

    /// Opens a stream. It waits for as long as the far side does not answer.
    ///
    /// # Errors
    /// When the tunnel is over or has as many streams as it may, or the far side takes no stream.
    pub async fn open(&self) -> io::Result<Stream> {
        let full =
            |_| io::Error::new(io::ErrorKind::QuotaExceeded, "the tunnel has no room for another connection");
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(full)?;
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = Uri::from_static(AUTHORITY);
        let mut sender = self.sender.clone().ready().await.map_err(io::Error::other)?;
        let (response, send) = sender.send_request(request, false).map_err(io::Error::other)?;
        let response = response.await.map_err(io::Error::other)?;
        if !response.status().is_success() {
            return Err(io::Error::other(format!("the other side responded with {}", response.status())));
        }
        Ok(Stream::new(send, response.into_body(), Some(slot)))
    }

    /// Tells the far side that this side is about to stop: it dials again, elsewhere, and goes on serving the streams of this
    /// tunnel. It waits for as long as the far side does not answer.
    ///
    /// # Errors
    /// When the tunnel is over, or the far side does not know the request.
    pub async fn announce_draining(&self) -> io::Result<()> {
        let to = uri::Builder::new().scheme("http").authority(AUTHORITY).path_and_query(DRAINING).build();
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = to.map_err(io::Error::other)?;
        let mut sender = self.sender.clone().ready().await.map_err(io::Error::other)?;
        let (response, _) = sender.send_request(request, true).map_err(io::Error::other)?;
        let status = response.await.map_err(io::Error::other)?.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("it responded with {status}")))
        }
    }

    /// Whether the tunnel has ended.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended.is_cancelled()
    }
}
