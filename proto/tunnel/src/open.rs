//! The side that was dialled, and opens streams.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{Method, Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{MAX_STREAMS, STREAM_WINDOW, Stream, TUNNEL_WINDOW, life};

/// CONNECT needs an authority; the other side serves one thing only and does not look at it.
const AUTHORITY: &str = "tunnel:80";

/// A tunnel that the far side dialled. Cheap to clone; it ends with its driver.
#[derive(Debug, Clone)]
pub struct Tunnel {
    sender: SendRequest<Bytes>,
    /// Whatever the far side allows.
    places: Arc<Semaphore>,
    over: CancellationToken,
}

impl Tunnel {
    /// Begins to use a connection. The second value is its driver: it moves all bytes, and resolves when the tunnel is over. When it
    /// is dropped, the connection and every stream end.
    ///
    /// # Errors
    /// When the connection breaks at once.
    pub async fn begin(
        carrier: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> io::Result<(Self, impl Future<Output = io::Error> + Send)> {
        let begun = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(TUNNEL_WINDOW)
            .enable_push(false)
            .handshake::<_, Bytes>(carrier)
            .await;
        let (sender, mut connection) = begun.map_err(io::Error::other)?;
        let asking = connection.ping_pong().ok_or_else(|| io::Error::other("nobody can be asked"))?;
        let over = CancellationToken::new();
        let tunnel = Self { sender, places: Arc::new(Semaphore::new(MAX_STREAMS)), over: over.clone() };
        let ends: DropGuard = over.drop_guard();
        let driver = async move {
            let _ends = ends;
            tokio::select! {
                ended = connection => match ended {
                    Ok(()) => io::ErrorKind::ConnectionAborted.into(),
                    Err(error) => io::Error::other(error),
                },
                silent = life::watch(asking) => silent,
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
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(full)?;
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = Uri::from_static(AUTHORITY);
        let mut sender = self.sender.clone().ready().await.map_err(io::Error::other)?;
        let (answer, send) = sender.send_request(request, false).map_err(io::Error::other)?;
        let answer = answer.await.map_err(io::Error::other)?;
        if !answer.status().is_success() {
            return Err(io::Error::other(format!("the far side answered {}", answer.status())));
        }
        Ok(Stream::new(send, answer.into_body(), Some(place)))
    }

    /// Whether no stream can be opened any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }
}
