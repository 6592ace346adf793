//! TLS of the client port: what handshakes are made with, what responses say of it, and a socket that can change threads under it.
//!
//! It must not know who connects.

use std::io::{self, IoSlice};
use std::net::TcpStream as StdStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderValue;
use inbound::tls::{Certificate, InForce};
use inbound::{ConnectionOptions, TransportRule};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server;

use crate::config::tls::TlsOptions;

/// The connection of a client over TLS.
pub type TlsStream = server::TlsStream<HandedOver>;

/// What the client port takes beside plain HTTP with bearers.
#[derive(Debug, Default)]
pub struct ClientPort {
    /// Its TLS.
    pub tls: Option<ClientTls>,
    /// Where bearers are taken as passwords of HTTP Basic, if anywhere.
    pub basic: Option<TransportRule>,
}

impl ClientPort {
    /// Takes what the options say, with this certificate, and believes `balancers` that their clients speak TLS.
    pub fn new(
        options: &TlsOptions,
        certificate: Option<&Certificate>,
        connections: &ConnectionOptions,
    ) -> Self {
        let hsts = inbound::browser::hsts(options.hsts_max_age);
        let tls = certificate.map(|certificate| ClientTls { in_force: certificate.in_force(), hsts });
        let balancers = connections.balancer_addresses.clone();
        let rule = TransportRule { is_tls: tls.is_some(), allows_plain: false, balancers };
        Self { tls, basic: options.basic_auth.then_some(rule) }
    }
}

/// TLS of the client port.
#[derive(Debug)]
pub struct ClientTls {
    /// What handshakes are made with.
    pub in_force: InForce,
    /// `Strict-Transport-Security` of responses.
    pub hsts: Option<HeaderValue>,
}

/// A socket that can be taken to another thread, whose runtime serves it from then on.
#[derive(Debug)]
pub struct HandedOver(Option<TcpStream>);

impl HandedOver {
    /// Wraps a socket.
    pub fn new(stream: TcpStream) -> Self {
        Self(Some(stream))
    }

    /// Takes the socket from the runtime of this thread.
    pub fn take(&mut self) -> io::Result<StdStream> {
        self.0.take().ok_or(io::ErrorKind::NotConnected)?.into_std()
    }

    /// Gives the socket to the runtime of this thread.
    pub fn put(&mut self, stream: StdStream) -> io::Result<()> {
        self.0 = Some(TcpStream::from_std(stream)?);
        Ok(())
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        Ok(Pin::new(self.0.as_mut().ok_or(io::ErrorKind::NotConnected)?))
    }
}

impl AsyncRead for HandedOver {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for HandedOver {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
