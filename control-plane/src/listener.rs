//! The socket: accepts, speaks TLS where told to, HTTP/1 and HTTP/2 on one port, and stops without cutting anyone off.
//!
//! It must not know what is served.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use inbound::Connections;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

/// The time that calls may go on after the stop.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Reads a certificate and its key.
pub(crate) fn tls(cert: &Path, key: &Path) -> io::Result<TlsAcceptor> {
    let wrong = |path: &Path, error: String| io::Error::other(format!("{}: {error}", path.display()));
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(cert, error.to_string()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| wrong(cert, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

/// Serves until `stop`, then lets calls finish for as long as [`GRACE`].
pub(crate) async fn serve(
    listener: TcpListener,
    connections: Connections,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
) {
    let handshake = move |stream| {
        let tls = tls.clone();
        async move {
            Ok(match tls {
                None => Either::Left(stream),
                Some(tls) => Either::Right(tls.accept(stream).await?),
            })
        }
    };
    if !inbound::http::serve(listener, connections, handshake, router, stop, GRACE).await {
        tracing::warn!("closing calls that did not end in time");
    }
}
