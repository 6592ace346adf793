//! The side that dialled, and accepts streams.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{KEEP_ALIVE, MAX_STREAMS, STREAM_WINDOW, Stream, TUNNEL_WINDOW};

/// Serves a connection until it ends: every stream that the far side opens is led to `take`, on a task of its own.
///
/// # Errors
/// When the connection breaks, or the far side does not speak as one that opens streams.
pub async fn accept<F>(
    carrier: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    take: impl Fn(Stream) -> F + Clone + Send + 'static,
) -> hyper::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let service = service_fn(move |request| {
        let take = take.clone();
        async move { Ok::<_, Infallible>(answer(request, take)) }
    });
    Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(TUNNEL_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .serve_connection(TokioIo::new(carrier), service)
        .await
}

fn answer<F>(
    mut request: Request<Incoming>,
    take: impl Fn(Stream) -> F + Send + 'static,
) -> Response<Empty<Bytes>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut response = Response::new(Empty::new());
    if request.method() != Method::CONNECT {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return response;
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // A stream that ended before it began is nobody's loss.
        if let Ok(upgraded) = upgrade.await {
            take(TokioIo::new(upgraded)).await;
        }
    });
    response
}
