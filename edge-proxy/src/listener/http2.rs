//! Connections that speak HTTP/2: many requests at once, each on a stream of its own, which is cut without the others.
//!
//! What waits for a client that grants no window is bounded in bytes and in time, as over HTTP/1.1 what waits for one that does not
//! read.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use inbound::http::http2::{
    CONNECTION_WINDOW, KEEP_ALIVE, MAX_ERROR_RESETS, MAX_PENDING_RESETS, MAX_STREAMS, STREAM_WINDOW,
};
use inbound::{Connection, Guarded, client_io};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use super::{CUT_OFF_AFTER, drained, drive};
use crate::context::WorkerState;
use crate::request;
use crate::transport::HttpConnection;

/// Bytes of a stream that wait in its connection to be sent.
const SEND_BUFFER: usize = 64 << 10;
/// Bytes that a body gives at once: what is given is kept whatever the client reads.
const CHUNK: usize = 16 << 10;

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
    let streams = Streams::new(limits.send_timeout + CUT_OFF_AFTER);
    let service = service_fn(|request| {
        http_connection.note_request();
        let stream = streams.begin(http_connection.stream());
        let (worker, dress) = (Rc::clone(worker), dress.clone());
        let in_progress = connection.handle().begin_request();
        Box::pin(async move {
            let mut response = request::serve(&worker, &stream.http_connection, request).await;
            dress(response.headers_mut());
            Ok::<_, Infallible>(response.map(|body| Chunked::new(Guarded::new(body, in_progress), stream)))
        })
    });
    let served = http2::Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(client_io(stream, limits.send_timeout + CUT_OFF_AFTER), service);
    let leaves = async {
        tokio::select! {
            () = drained(worker, http_connection) => {}
            () = streams.idle(limits.header_timeout) => {}
        }
    };
    drive(served, |served| served.graceful_shutdown(), leaves, connection, http_connection).await;
}

/// The streams of a connection, which run on its thread.
#[derive(Clone)]
struct Streams(Rc<StreamsState>);

struct StreamsState {
    /// The time that a client has to make room for what is sent to it.
    patience: Duration,
    /// The stream that has begun and does not run yet.
    next: RefCell<Option<Rc<Stream>>>,
    begun: Cell<u64>,
    open: Cell<usize>,
}

/// A stream, and how far its response is.
struct Stream {
    http_connection: Rc<HttpConnection>,
    /// Chunks of the response that were given to the connection.
    given: Cell<u64>,
    /// Whether the connection has not asked for more since.
    is_full: Cell<bool>,
}

impl Streams {
    fn new(patience: Duration) -> Self {
        let (next, begun, open) = (RefCell::default(), Cell::default(), Cell::default());
        Self(Rc::new(StreamsState { patience, next, begun, open }))
    }

    /// Begins a stream. What is executed next is its response.
    fn begin(&self, http_connection: HttpConnection) -> Rc<Stream> {
        let http_connection = Rc::new(http_connection);
        let stream = Rc::new(Stream { http_connection, given: Cell::default(), is_full: Cell::default() });
        self.0.begun.set(self.0.begun.get() + 1);
        *self.0.next.borrow_mut() = Some(Rc::clone(&stream));
        stream
    }

    /// Waits until there has been no stream for so long.
    async fn idle(&self, timeout: Duration) {
        loop {
            let begun = self.0.begun.get();
            tokio::time::sleep(timeout).await;
            if self.0.open.get() == 0 && self.0.begun.get() == begun {
                return;
            }
        }
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, response: F) {
        let (streams, stream) = (Rc::clone(&self.0), self.0.next.take());
        let open = Open::new(streams);
        tokio::task::spawn_local(async move {
            match stream {
                None => response.await,
                // Dropping the response resets the stream.
                Some(stream) => tokio::select! {
                    biased;
                    () = stream.http_connection.cut_off() => {}
                    () = stream.respond(response, open.0.patience) => {}
                },
            }
            drop(open);
        });
    }
}

/// A stream that counts as open until this is dropped.
struct Open(Rc<StreamsState>);

impl Open {
    fn new(streams: Rc<StreamsState>) -> Self {
        streams.open.set(streams.open.get() + 1);
        Self(streams)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

impl Stream {
    /// Sends a response to its end, unless the client makes no room for more of it in time.
    async fn respond(&self, response: impl Future<Output = ()>, patience: Duration) {
        let mut response = std::pin::pin!(response);
        let mut waiting: Option<(u64, Pin<Box<Sleep>>)> = None;
        poll_fn(|cx| {
            if response.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let given = self.given.get();
            if !self.is_full.get() || waiting.as_ref().is_some_and(|(before, _)| *before != given) {
                waiting = None;
            }
            if !self.is_full.get() {
                return Poll::Pending;
            }
            let (_, over) = waiting.get_or_insert_with(|| (given, Box::pin(tokio::time::sleep(patience))));
            over.as_mut().poll(cx)
        })
        .await;
    }
}

/// A body in chunks of a bounded size, of which its stream knows how many were given.
struct Chunked<B> {
    body: B,
    rest: Bytes,
    stream: Rc<Stream>,
}

impl<B> Chunked<B> {
    fn new(body: B, stream: Rc<Stream>) -> Self {
        Self { body, rest: Bytes::new(), stream }
    }

    fn next(&mut self) -> Frame<Bytes> {
        self.stream.given.set(self.stream.given.get() + 1);
        self.stream.is_full.set(true);
        Frame::data(self.rest.split_to(self.rest.len().min(CHUNK)))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Chunked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.stream.is_full.set(false);
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.next())));
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(data) => {
                    self.rest = data;
                    self.next()
                }
                Err(trailers) => trailers,
            }))),
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        match self.body.size_hint().exact() {
            Some(length) => SizeHint::with_exact(length + rest),
            None => SizeHint::default(),
        }
    }
}
