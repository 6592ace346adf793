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
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt as _};

use crate::accept::accept;
use crate::client_io::client_io;
use crate::connections::{CloseReason, Connection, ConnectionHandle, Connections};
use crate::guarded::Guarded;

/// The time for the head of a request, and of an idle connection over HTTP/1.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that a client may take to read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The time that a connection which must close has to finish what it has begun.
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
    B: Body<Data = Bytes> + Unpin + Send + 'static,
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
                    tracing::debug!(%address, reason, "closed a connection");
                }
            }
        });
    }
    drop(listener);
    tasks.close();
    tokio::time::timeout(grace, tasks.wait()).await.is_ok()
}

/// Waits until a connection has to be dropped; one that may finish what it has begun is told to leave before.
async fn see_off(connection: &Connection, leave: &CancellationToken) -> CloseReason {
    let reason = connection.must_close().await;
    if reason.may_finish() {
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
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        let in_progress = handle.begin_request();
        request.extensions_mut().insert(handle.clone());
        let response = service.clone().oneshot(request);
        async move { response.await.map(|response| response.map(|body| Guarded::new(body, in_progress))) }
    });
    let io = client_io(stream, WRITE_TIMEOUT);
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::Empty;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::connections::{ConnectionHandle, ConnectionHolder};
    use crate::table::ConnectionLimits;

    /// Far more than anything takes.
    const PATIENCE: Duration = Duration::from_secs(60);
    /// The kinds of frames, and the errors, that the tests meet (RFC 9113, sections 6 and 7).
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;
    const CONTINUATION: u8 = 9;
    const REFUSED_STREAM: u32 = 7;
    const ENHANCE_YOUR_CALM: u32 = 11;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    /// `GET / HTTP/2` of `localhost` in HPACK.
    const REQUEST: &[u8] = b"\x82\x86\x84\x41\x09localhost";

    /// A listener whose requests are answered, where `responds`, and counted.
    async fn start(responds: bool, timeout: Duration) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let service = tower::service_fn(move |request: Request<Incoming>| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                if request.uri().path() == "/known" {
                    let connection = request.extensions().get::<ConnectionHandle>().unwrap();
                    connection.set_authenticated(ConnectionHolder::kept(0)).unwrap();
                }
                if !responds {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let limits = ConnectionLimits::authenticated(100, 100, Vec::new());
        let connections = Connections::new(limits, Some(timeout));
        let handshake = |stream| std::future::ready(Ok(stream));
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, connections, handshake, service, stop, Duration::ZERO));
        (address, requests)
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// Sends frames after the preface and empty settings; the frames that come back until one of `wanted`, which is the last.
    async fn exchange(address: SocketAddr, frames: &[u8], wanted: u8) -> (u32, Vec<u8>) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, b"")].concat();
        stream.write_all(&hello).await.unwrap();
        // The other side may have had enough before the end.
        let (mut reader, mut writer) = stream.split();
        let write = async {
            let _ = writer.write_all(frames).await;
            std::future::pending().await
        };
        let read = async {
            loop {
                let mut head = [0; 9];
                reader.read_exact(&mut head).await.expect("the connection ends without a reason");
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; length as usize];
                reader.read_exact(&mut payload).await.unwrap();
                if head[3] == wanted {
                    return (u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload);
                }
            }
        };
        tokio::select! {
            found = tokio::time::timeout(PATIENCE, read) => found.expect("the frame does not come"),
            never = write => never,
        }
    }

    /// The error of a GOAWAY frame.
    fn reason(payload: &[u8]) -> u32 {
        u32::from_be_bytes(payload[4..8].try_into().unwrap())
    }

    #[tokio::test]
    async fn streams_that_are_reset_at_once_end_the_connection() {
        let (address, _) = start(false, PATIENCE).await;
        let mut frames = Vec::new();
        for stream in (1..2_000).step_by(2) {
            frames.extend(frame(HEADERS, END_HEADERS, stream, REQUEST));
            frames.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        }
        let (_, goaway) = exchange(address, &frames, GOAWAY).await;
        assert_eq!(reason(&goaway), ENHANCE_YOUR_CALM);
    }

    #[tokio::test]
    async fn headers_without_end_end_the_connection() {
        let (address, requests) = start(true, PATIENCE).await;
        let mut frames = frame(HEADERS, END_STREAM, 1, REQUEST);
        for _ in 0..2_000 {
            frames.extend(frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b"));
        }
        let (_, goaway) = exchange(address, &frames, GOAWAY).await;
        assert_eq!((reason(&goaway), requests.load(Ordering::Relaxed)), (ENHANCE_YOUR_CALM, 0));
    }

    #[tokio::test]
    async fn headers_of_more_than_sixteen_kibibytes_reach_nobody() {
        let (address, requests) = start(true, PATIENCE).await;
        // Six headers `a` of 4,000 bytes (HPACK, sections 5.1 and 6.2.2), in two frames.
        let long = [b"\x00\x01a\x7f\xa1\x1e".as_slice(), &[b'x'; 4_000]].concat();
        let mut frames = frame(HEADERS, END_STREAM, 1, &[REQUEST, &long.repeat(3)].concat());
        frames.extend(frame(CONTINUATION, END_HEADERS, 1, &long.repeat(3)));
        // It is answered 431, and the connection goes on.
        let (stream, response) = exchange(address, &frames, HEADERS).await;
        assert_eq!((stream, requests.load(Ordering::Relaxed)), (1, 0));
        // `:status: 431`, in the Huffman code of HPACK.
        assert!(response.ends_with(b"\x48\x83\x69\x90\xff"), "{response:?}");
        frames = frame(HEADERS, END_STREAM | END_HEADERS, 1, &[REQUEST, &long].concat());
        exchange(address, &frames, HEADERS).await;
        assert_eq!(requests.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_connection_has_so_many_streams() {
        let (address, requests) = start(false, PATIENCE).await;
        let mut frames = Vec::new();
        for stream in (1..=2 * http2::MAX_STREAMS + 1).step_by(2) {
            frames.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, REQUEST));
        }
        let (stream, error) = exchange(address, &frames, RST_STREAM).await;
        assert_eq!((stream, error), (2 * http2::MAX_STREAMS + 1, REFUSED_STREAM.to_be_bytes().to_vec()));
        assert!(requests.load(Ordering::Relaxed) <= http2::MAX_STREAMS as usize);
    }

    /// What comes back over HTTP/1 until the end.
    async fn http1(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn http1_has_its_bounds_too() {
        let (address, requests) = start(true, PATIENCE).await;
        let many = "a: b\r\n".repeat(MAX_HEADERS + 1);
        let answer = http1(address, &format!("GET / HTTP/1.1\r\n{many}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let long = "x".repeat(MAX_BUFFER);
        let answer = http1(address, &format!("GET / HTTP/1.1\r\na: {long}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert_eq!(requests.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_connection_that_does_not_authenticate_ends_and_one_that_has_goes_on() {
        let (address, requests) = start(true, Duration::from_secs(3)).await;
        let mut known = TcpStream::connect(address).await.unwrap();
        let request = b"GET /known HTTP/1.1\r\n\r\n";
        known.write_all(request).await.unwrap();
        let answer = http1(address, "GET /unknown HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        // Its time is over as well: one that says nothing from now on has had its own after it.
        assert_eq!(http1(address, "").await, "");
        known.write_all(request).await.unwrap();
        while requests.load(Ordering::Relaxed) < 3 {
            known.read_u8().await.expect("the connection was closed");
        }
    }
}
