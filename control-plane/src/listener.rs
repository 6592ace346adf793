//! The socket: accepts, speaks TLS where told to, HTTP/1 and HTTP/2 on one port, and stops without cutting anyone off.
//!
//! It must not know what is served.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use inbound::{ConnectionLimits, Connections};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use crate::config::Limits;

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

/// Creates the table of connections, of which there are none yet.
pub(crate) fn connections(limits: &Limits) -> Connections {
    let max_connections = inbound::within_file_limit(limits.max_connections);
    if max_connections < limits.max_connections {
        tracing::warn!(
            max_connections,
            "the limit of open files allows fewer connections than --max-connections; raise it with `ulimit -n`"
        );
    }
    let table = ConnectionLimits::authenticated(
        max_connections,
        limits.max_unauthenticated_per_address,
        limits.balancer_addresses.clone(),
    );
    Connections::new(table, Some(limits.authentication_timeout))
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
