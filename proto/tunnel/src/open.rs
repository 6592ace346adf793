//! The side that was dialled, and opens streams.

use std::io;

use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::Empty;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{KEEP_ALIVE, STREAM_WINDOW, Stream, TUNNEL_WINDOW};

/// CONNECT needs an authority; the other side serves one thing only and does not look at it.
const AUTHORITY: &str = "tunnel:80";

/// A tunnel that the far side dialled. Cheap to clone; it ends with its driver.
#[derive(Debug, Clone)]
pub struct Tunnel {
    sender: SendRequest<Empty<Bytes>>,
}

impl Tunnel {
    /// Begins to use a connection. The second value is its driver: it moves the bytes, and resolves when the tunnel is over.
    ///
    /// # Errors
    /// When the far side does not speak as one that accepts.
    pub async fn begin(
        carrier: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> hyper::Result<(Self, impl Future<Output = hyper::Result<()>> + Send)> {
        let (sender, driver) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(TUNNEL_WINDOW)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(carrier))
            .await?;
        Ok((Self { sender }, driver))
    }

    /// Opens a stream. It waits while as many are open as the far side takes.
    ///
    /// # Errors
    /// When the tunnel is over, or the far side takes no stream.
    pub async fn open(&self) -> io::Result<Stream> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = Uri::from_static(AUTHORITY);
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        if !response.status().is_success() {
            return Err(io::Error::other(format!("the far side answered {}", response.status())));
        }
        hyper::upgrade::on(response).await.map(TokioIo::new).map_err(io::Error::other)
    }

    /// Whether no stream can be opened any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.sender.is_closed()
    }
}
