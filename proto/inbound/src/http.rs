//! HTTP/1 and HTTP/2 on one port, with every bound of the protocols set: for listeners that are not on the path of a
//! call.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt as _};

use crate::accept::accept;
use crate::connections::{CloseReason, Connection, ConnectionHandle, Connections};
use crate::line_endings::StrictLines;
use crate::write_timeout::WriteTimeout;

/// The time for the head of a request, and of an idle connection over HTTP/1.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that a client may take to read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The time that a connection which did not authenticate has to finish what it has begun.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes of a head, and of what is read ahead of it, over HTTP/1.
const MAX_BUFFER: usize = 128 << 10;
/// Headers of a request over HTTP/1; more get 431.
const MAX_HEADERS: usize = 100;

/// Bounds of a connection over HTTP/2.
pub mod http2 {
    use std::time::Duration;

    /// Concurrent streams of a connection.
    pub const MAX_STREAMS: u32 = 256;
    /// The size of all headers of a request, in bytes; it bounds the CONTINUATION frames, too (CVE-2024-27316).
    pub const MAX_HEADER_LIST: u32 = 16 << 10;
    /// Streams that the client has reset before anybody looked at them; past it the connection ends (CVE-2023-44487).
    pub const MAX_PENDING_RESETS: usize = 20;
    /// Streams that are reset because of the client's errors; past it the connection ends (CVE-2025-8671).
    pub const MAX_ERROR_RESETS: usize = 64;
    /// Bytes of a stream that may be on their way.
    pub const STREAM_WINDOW: u32 = 256 << 10;
    /// Bytes of a connection that may be on their way.
    pub const CONNECTION_WINDOW: u32 = 1 << 20;
    /// Bytes of a stream that wait to be sent.
    pub const SEND_BUFFER: usize = 256 << 10;
    /// The interval of pings, and the time to respond to one: a peer that is gone is noticed within twice this.
    pub const KEEP_ALIVE: Duration = Duration::from_secs(20);
}

/// Serves every connection until `stop`, and what runs then for as long as `grace`. Each request has the
/// [`ConnectionHandle`] of its connection in its extensions. `handshake` makes a stream of a socket:
/// it may take as long as a connection has to authenticate. Returns whether everything had ended in time.
pub async fn serve<H, F, I, S, B>(
    listener: TcpListener,
    connections: Connections,
    handshake: H,
    service: S,
    stop: CancellationToken,
    grace: Duration,
) -> bool
where
    H: Fn(TcpStream) -> F,
    F: Future<Output = io::Result<I>> + Send + 'static,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let tasks = TaskTracker::new();
    while let Some((stream, address, connection)) =
        stop.run_until_cancelled(accept(&listener, &connections)).await
    {
        // Small messages go at once; without it they wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        let (stream, service, leave) = (handshake(stream), service.clone(), stop.child_token());
        tasks.spawn(async move {
            let handle = connection.handle().clone();
            let served = async {
                match stream.await {
                    Ok(stream) => serve_connection(stream, service, handle, &leave).await,
                    Err(error) => tracing::debug!(%address, %error, "the TLS handshake failed"),
                }
            };
            tokio::select! {
                () = served => {}
                reason = see_off(&connection, &leave) => {
                    let reason = reason.as_str();
                    tracing::debug!(%address, reason, "closed a connection that has not authenticated");
                }
            }
        });
    }
    drop(listener);
    tasks.close();
    tokio::time::timeout(grace, tasks.wait()).await.is_ok()
}

/// Waits until a connection has to be dropped; one that did not authenticate in time is told to leave before.
async fn see_off(connection: &Connection, leave: &CancellationToken) -> CloseReason {
    let reason = connection.must_close().await;
    if reason == CloseReason::AuthenticationTimeout {
        leave.cancel();
        tokio::time::sleep(FAREWELL).await;
    }
    reason
}

async fn serve_connection<I, S, B>(stream: I, service: S, handle: ConnectionHandle, leave: &CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(handle.clone());
        service.clone().oneshot(request)
    });
    let io = TokioIo::new(WriteTimeout::new(StrictLines::new(stream), WRITE_TIMEOUT));
    let mut served = std::pin::pin!(builder().serve_connection_with_upgrades(io, service).into_owned());
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = leave.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(http2::KEEP_ALIVE)
        .keep_alive_timeout(http2::KEEP_ALIVE)
        .max_concurrent_streams(http2::MAX_STREAMS)
        .max_header_list_size(http2::MAX_HEADER_LIST)
        .max_pending_accept_reset_streams(http2::MAX_PENDING_RESETS)
        .max_local_error_reset_streams(http2::MAX_ERROR_RESETS)
        .initial_stream_window_size(http2::STREAM_WINDOW)
        .initial_connection_window_size(http2::CONNECTION_WINDOW)
        .max_send_buf_size(http2::SEND_BUFFER);
    builder
}
