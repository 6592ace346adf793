//! Connections that speak HTTP/1.1, with or without TLS.

use std::convert::Infallible;
use std::rc::Rc;

use http::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use inbound::{Connection, Guarded, client_io};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{CUT_OFF_AFTER, drained, drive};
use crate::context::WorkerState;
use crate::request;
use crate::transport::HttpConnection;

/// Bytes that are read ahead of a request's head.
const READ_AHEAD: usize = 64 << 10;

/// Serves a connection. `dress` adds what every response on it has.
pub(super) async fn serve<S, D>(
    stream: S,
    connection: &Connection,
    http_connection: &Rc<HttpConnection>,
    worker: &Rc<WorkerState>,
    dress: D,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Fn(&mut HeaderMap) + Clone + 'static,
{
    let limits = &worker.shared.environment.limits;
    let service = service_fn(|request| {
        let (worker, http_connection) = (Rc::clone(worker), Rc::clone(http_connection));
        http_connection.note_request();
        let (in_progress, dress) = (connection.handle().begin_request(), dress.clone());
        // Boxed: hyper moves it several times, and each connection would hold the room for it while it is idle.
        Box::pin(async move {
            let mut response = request::serve(&worker, &http_connection, request).await;
            dress(response.headers_mut());
            Ok::<_, Infallible>(response.map(|body| Guarded::new(body, in_progress)))
        })
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(limits.max_header_bytes + READ_AHEAD)
        .serve_connection(client_io(stream, limits.send_timeout + CUT_OFF_AFTER), service)
        .with_upgrades();
    let leaves = drained(worker, http_connection);
    drive(served, |served| served.graceful_shutdown(), leaves, connection, http_connection).await;
}
