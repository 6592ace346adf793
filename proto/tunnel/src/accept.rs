//! The side that dialled, and accepts streams.

use std::io;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::{DRAINING, MAX_STREAMS, STREAM_WINDOW, Stream, TUNNEL_WINDOW, keepalive};

/// Serves a connection until it ends: every stream that the far side opens is passed to `serve_stream`, on a task of
/// its own. Returns the error that ended it; streams that are still served end with it. `draining` is called when the far
/// side says that it is about to stop: another tunnel is wanted then, while this one is served until it ends.
pub async fn accept<F>(
    carrier: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    serve_stream: impl Fn(Stream) -> F,
    draining: impl Fn(),
) -> io::Error
where
    F: Future<Output = ()> + Send + 'static,
{
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(TUNNEL_WINDOW)
        .max_concurrent_streams(u32::try_from(MAX_STREAMS).unwrap_or(u32::MAX))
        .handshake::<_, Bytes>(carrier)
        .await;
    let mut connection = match handshake {
        Ok(connection) => connection,
        Err(error) => return io::Error::other(error),
    };
    let Some(ping_pong) = connection.ping_pong() else { return io::Error::other("pings are in use already") };
    tokio::select! {
        ended = serve(connection, serve_stream, draining) => ended,
        silent = keepalive::watch(ping_pong) => silent,
    }
}

async fn serve<F, C>(
    mut connection: Connection<C, Bytes>,
    serve_stream: impl Fn(Stream) -> F,
    draining: impl Fn(),
) -> io::Error
where
    F: Future<Output = ()> + Send + 'static,
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut streams = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            Some(_) = streams.join_next() => continue,
        };
        match accepted {
            Some(Ok((request, mut response))) if is_draining(&request) => {
                let mut taken = Response::new(());
                *taken.status_mut() = StatusCode::NO_CONTENT;
                // An error means that the tunnel has ended already.
                let _: Result<_, _> = response.send_response(taken, true);
                draining();
            }
            Some(Ok((request, response))) => {
                // A stream that ended before it began is dropped.
                if let Some(stream) = open_stream(request, response) {
                    streams.spawn(serve_stream(stream));
                }
            }
            Some(Err(error)) => return io::Error::other(error),
            None => return io::Error::new(io::ErrorKind::ConnectionAborted, "it was closed"),
        }
    }
}

fn is_draining(request: &Request<RecvStream>) -> bool {
    request.method() == Method::POST && request.uri().path() == DRAINING
}

fn open_stream(request: Request<RecvStream>, mut response: SendResponse<Bytes>) -> Option<Stream> {
    if request.method() != Method::CONNECT {
        response.send_reset(Reason::REFUSED_STREAM);
        return None;
    }
    let send = response.send_response(Response::new(()), false).ok()?;
    Some(Stream::new(send, request.into_body(), None))
}
