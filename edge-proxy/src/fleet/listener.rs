//! The port for siblings: accepts TLS connections of edges in the snapshot. It must not know what they call.

use std::io;
use std::net::TcpListener as StdListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::observe::{Gauge, GaugeGuard};

/// Connections of siblings at one time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 8_192;
/// The time limit of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failed accept: mostly there are no file descriptors left, and they come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection of a sibling.
pub(super) struct SiblingConnection {
    stream: TlsStream<TcpStream>,
    _counted: GaugeGuard,
    _permit: OwnedSemaphorePermit,
}

/// Accepts connections and completes their handshakes, until the receiver is gone.
///
/// # Errors
/// If the socket cannot be used by this runtime.
pub(super) async fn accept(
    listener: StdListener,
    tls: TlsAcceptor,
    connections: Gauge,
    accepted: mpsc::Sender<io::Result<SiblingConnection>>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            () = accepted.closed() => return Ok(()),
        };
        let Ok((stream, address)) = stream else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (tls, accepted, counted) = (tls.clone(), accepted.clone(), connections.enter());
        tokio::spawn(async move {
            // Small messages go at once; without it they wait for the other side's acknowledgement.
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let connection = SiblingConnection { stream, _counted: counted, _permit: permit };
                    // Nobody takes it when the edge is stopping.
                    let _ = accepted.send(Ok(connection)).await;
                }
                Ok(Err(error)) if is_stranger(&error) => {
                    tracing::warn!(%address, %error, "refused a connection to the edges' port: unknown certificate");
                }
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "TLS handshake failed on the edges' port")
                }
                Err(_) => tracing::debug!(%address, "TLS handshake timed out on the edges' port"),
            }
        });
    }
    Ok(())
}

/// Returns whether the client presented a certificate that is not accepted, or none. Port scanners do not get that far.
fn is_stranger(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

impl Connected for SiblingConnection {
    type ConnectInfo = <TlsStream<TcpStream> as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for SiblingConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for SiblingConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
