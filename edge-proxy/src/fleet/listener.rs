//! The port for siblings: accepts TLS connections of edges in the snapshot. It must not know what they call.

use std::io;
use std::net::{IpAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use inbound::{Connection, ConnectionHolder, ConnectionLimits, Connections, LineLimit, RequestInProgress};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::observe::{Gauge, GaugeGuard};

/// Connections at one time, of which those who have not presented a certificate have three quarters.
const MAX_CONNECTIONS: usize = 8_192;
/// Connections of one address at one time that have not.
const MAX_STRANGERS_PER_ADDRESS: usize = 1_024;
/// The time limit of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Creates the table of siblings' connections, of which there are none yet.
pub(super) fn connections() -> Connections {
    let limits = ConnectionLimits::authenticated(MAX_CONNECTIONS, MAX_STRANGERS_PER_ADDRESS, Vec::new());
    Connections::new(limits, Some(HANDSHAKE_TIMEOUT))
}

/// A connection of a sibling.
pub(super) struct SiblingConnection {
    stream: TlsStream<TcpStream>,
    _counted: GaugeGuard,
    /// Nobody knows whether it is idle: it is never closed for another, and past its share a sibling gets no more.
    _in_progress: RequestInProgress,
    _connection: Connection,
}

/// Accepts connections and completes their handshakes, until the receiver is gone.
///
/// # Errors
/// If the socket cannot be used by this runtime.
pub(super) async fn accept(
    listener: StdListener,
    tls: TlsAcceptor,
    connections: Connections,
    open: Gauge,
    accepted: mpsc::Sender<io::Result<SiblingConnection>>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let strangers = Arc::new(LineLimit::<IpAddr>::new());
    loop {
        let (stream, address, connection) = tokio::select! {
            next = inbound::accept(&listener, &connections) => next,
            () = accepted.closed() => return Ok(()),
        };
        let (tls, accepted, counted) = (tls.clone(), accepted.clone(), open.enter());
        let strangers = Arc::clone(&strangers);
        tokio::spawn(async move {
            // Small messages go at once; without it they wait for the other side's acknowledgement.
            let _ = stream.set_nodelay(true);
            let handshake = tokio::select! {
                handshake = tls.accept(stream) => handshake,
                reason = connection.must_close() => {
                    let reason = reason.as_str();
                    return tracing::debug!(%address, reason, "closed a connection to the edges' port");
                }
            };
            match handshake {
                Ok(stream) => {
                    let certificates = stream.get_ref().1.peer_certificates();
                    let sibling = certificates.and_then(<[_]>::first).map(AsRef::<[u8]>::as_ref);
                    let in_progress = connection.handle().begin_request();
                    if let Err(error) = connection.handle().set_authenticated(ConnectionHolder::new(sibling))
                    {
                        return tracing::warn!(%address, %error, "refused a connection to the edges' port");
                    }
                    let connection = SiblingConnection {
                        stream,
                        _counted: counted,
                        _in_progress: in_progress,
                        _connection: connection,
                    };
                    // Nobody takes it when the edge is stopping.
                    let _ = accepted.send(Ok(connection)).await;
                }
                Err(error) if is_stranger(&error) => {
                    if let Some(times) = strangers.count(connection.handle().subscriber()) {
                        tracing::warn!(%address, %error, times, "refused a connection to the edges' port: unknown certificate");
                    }
                }
                Err(error) => {
                    tracing::debug!(%address, %error, "TLS handshake failed on the edges' port")
                }
            }
        });
    }
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
