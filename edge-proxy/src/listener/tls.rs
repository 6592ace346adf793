//! Connections over TLS: the handshake, within its bounds, and the protocol that it agrees on.

use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use inbound::LineLimit;
use inbound::tls::InForce;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{Origin, drained, http1, http2};
use crate::context::WorkerState;
use crate::identity::ClientCertificate;
use crate::transport::{ClientTls, HandedOver, TlsStream};

/// Whoever connects causes such lines.
static FAILURES: LineLimit<IpAddr> = LineLimit::new();

/// Serves a connection, once its handshake is made. That may take as long as a connection has to authenticate, and until then it is
/// one of a stranger.
pub(super) async fn serve(stream: TcpStream, origin: &Origin, worker: &Rc<WorkerState>, tls: &ClientTls) {
    // That of this moment, also where it is replaced meanwhile.
    let mut in_force = tls.in_force.clone();
    let config = Arc::clone(&in_force.borrow_and_update().config);
    let accepted = {
        let http_connection = origin.http_connection(worker);
        let mut stranger = pin!(drained(worker, &http_connection));
        tokio::select! {
            biased;
            accepted = TlsAcceptor::from(config).accept(HandedOver::new(stream)) => accepted,
            _ = origin.connection.must_close() => return,
            () = stranger.as_mut() => return,
        }
    };
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => return note_failure(worker, origin, &error),
    };
    let certificate = stream.get_ref().1.peer_certificates().map(ClientCertificate::read).map(Arc::new);
    tokio::select! {
        biased;
        () = serve_stream(stream, origin, certificate.clone(), worker, tls) => {}
        () = distrusted(in_force, certificate.as_deref()) => {
            tracing::debug!("closed a connection, because its client certificate is not believed any more");
        }
    }
}

async fn serve_stream(
    stream: TlsStream,
    origin: &Origin,
    certificate: Option<Arc<ClientCertificate>>,
    worker: &Rc<WorkerState>,
    tls: &ClientTls,
) {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let http_connection = Rc::new(origin.http_connection(worker).over_tls(certificate));
    let hsts = tls.hsts.clone();
    let dress = move |headers: &mut HeaderMap| inbound::browser::protect(headers, hsts.as_ref());
    if is_http2 {
        http2::serve(stream, &origin.connection, &http_connection, worker, dress).await;
    } else {
        http1::serve(stream, &origin.connection, &http_connection, worker, dress).await;
    }
}

fn note_failure(worker: &WorkerState, origin: &Origin, error: &std::io::Error) {
    worker.shared.environment.metrics.tls_handshakes_failed.inc();
    let peer = origin.connection.handle().address();
    // Health checks of balancers connect and say nothing.
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return tracing::debug!(%peer, "a client left before its TLS handshake");
    }
    if let Some(times) = FAILURES.count(peer) {
        tracing::info!(%peer, %error, times, "a TLS handshake failed");
    }
}

/// Waits until the certificate of a client is not believed any more, because the authorities have changed.
async fn distrusted(mut in_force: InForce, certificate: Option<&ClientCertificate>) {
    if let Some(certificate) = certificate {
        while in_force.changed().await.is_ok() {
            if !in_force.borrow_and_update().believes(certificate.chain()) {
                return;
            }
        }
    }
    std::future::pending().await
}
