//! The side that dialled, and accepts streams.

use std::io;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::{MAX_STREAMS, STREAM_WINDOW, Stream, TUNNEL_WINDOW, life};

/// Serves a connection until it ends: every stream that the far side opens is led to `take`, on a task of its own. Returns why it
/// ended; what `take` still does ends with it.
pub async fn accept<F>(
    carrier: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    take: impl Fn(Stream) -> F,
) -> io::Error
where
    F: Future<Output = ()> + Send + 'static,
{
    let begun = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(TUNNEL_WINDOW)
        .max_concurrent_streams(u32::try_from(MAX_STREAMS).unwrap_or(u32::MAX))
        .handshake::<_, Bytes>(carrier)
        .await;
    let mut connection = match begun {
        Ok(connection) => connection,
        Err(error) => return io::Error::other(error),
    };
    let Some(asking) = connection.ping_pong() else { return io::Error::other("nobody can be asked") };
    tokio::select! {
        ended = serve(connection, take) => ended,
        silent = life::watch(asking) => silent,
    }
}

async fn serve<F, C>(mut connection: Connection<C, Bytes>, take: impl Fn(Stream) -> F) -> io::Error
where
    F: Future<Output = ()> + Send + 'static,
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut taken = JoinSet::new();
    loop {
        let asked = tokio::select! {
            asked = connection.accept() => asked,
            Some(_) = taken.join_next() => continue,
        };
        match asked {
            Some(Ok((request, answer))) => {
                // One that ended before it began is nobody's loss.
                if let Some(stream) = begin(request, answer) {
                    taken.spawn(take(stream));
                }
            }
            Some(Err(error)) => return io::Error::other(error),
            None => return io::Error::new(io::ErrorKind::ConnectionAborted, "it was closed"),
        }
    }
}

fn begin(request: Request<RecvStream>, mut answer: SendResponse<Bytes>) -> Option<Stream> {
    if request.method() != Method::CONNECT {
        answer.send_reset(Reason::REFUSED_STREAM);
        return None;
    }
    let send = answer.send_response(Response::new(()), false).ok()?;
    Some(Stream::new(send, request.into_body(), None))
}
