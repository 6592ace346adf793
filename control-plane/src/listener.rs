//! The socket: accepts, speaks TLS where told to, HTTP/1 and HTTP/2 on one port, and stops without cutting anyone off.
//!
//! It must not know what is served.

use std::time::Duration;

use axum::Router;
use inbound::Connections;
use inbound::tls::InForce;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

/// The time that calls may go on after the stop.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Serves until `stop`, then lets calls finish for as long as [`GRACE`].
pub(crate) async fn serve(
    listener: TcpListener,
    connections: Connections,
    tls: Option<InForce>,
    router: Router,
    stop: CancellationToken,
) {
    let handshake = move |stream| {
        // That of this moment, also where it is replaced meanwhile.
        let tls = tls.as_ref().map(|in_force| TlsAcceptor::from(in_force.borrow().config.clone()));
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
