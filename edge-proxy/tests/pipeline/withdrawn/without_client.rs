//! Calls that go on though their client has hung up, as the legacy era has it: until their right ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use axum::response::Response;
use trunkline_edge_proxy::config::limits::Limits;

use super::{CALL, WITHDRAWALS, before_that, cancelled, endless, last_code, rest};
use crate::eras::{ask, open_stream};
use crate::streams::until;
use crate::support::{Edge, Recorded, Socket, Sse, Upstream, eventually, mcp, never, speaks, status};

const NOTIFICATION: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n";

/// Streams that an upstream has open.
#[derive(Clone, Default)]
pub(super) struct OpenStreams(Arc<AtomicIsize>);

struct OpenStream(Arc<AtomicIsize>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl OpenStreams {
    /// A stream that begins with this and never ends by itself.
    pub(super) fn open(&self, start: &str) -> Response {
        self.0.fetch_add(1, Ordering::SeqCst);
        let open = OpenStream(Arc::clone(&self.0));
        let start = Some(bytes::Bytes::from(start.to_owned()));
        let body = futures_util::stream::unfold((start, open), |(start, open)| async move {
            let start = match start {
                Some(start) => start,
                None => std::future::pending().await,
            };
            Some((Ok::<_, std::convert::Infallible>(start), (None, open)))
        });
        let body = axum::body::Body::from_stream(body);
        Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    }

    pub(super) fn count(&self) -> isize {
        self.0.load(Ordering::SeqCst)
    }

    pub(super) async fn none_is_left(&self) {
        eventually("the upstream's streams are closed", || self.count() == 0).await;
    }
}

/// What is read before the client hangs up, the revision, and how the upstream answers.
type Stage = (&'static str, &'static str, fn(&Recorded) -> Response);

#[tokio::test]
async fn a_call_without_a_client_is_cancelled() {
    let waiting = |_: &Recorded| never();
    let streaming = |_: &Recorded| open_stream(NOTIFICATION);
    let resumable = |_: &Recorded| open_stream("id: e/1\ndata:\n\n");
    let stages: [Stage; 3] = [
        ("", "2025-11-25", waiting),
        ("notifications/x", "2025-06-18", streaming),
        ("\n\n", "2025-11-25", resumable),
    ];
    for (what, withdraw, _) in WITHDRAWALS {
        for (first, revision, answer) in stages {
            let upstream = Upstream::start(answer).await;
            let mut edge = before_that(&upstream, what);
            let session = edge.session(revision, "{}").await;
            let call = edge.request("POST", &[("mcp-session-id", &session)], CALL).send();
            if first.is_empty() {
                let call = tokio::spawn(call);
                eventually("the call arrives", || !upstream.calls("tools/call").is_empty()).await;
                call.abort();
            } else {
                until(&mut call.await.unwrap(), first).await;
            }
            edge.nothing_is_left().await;
            assert_eq!(upstream.calls("notifications/cancelled").len(), 0, "{what}: it goes on");
            withdraw(&mut edge);
            edge.publish();
            cancelled(&upstream).await;
        }
    }
}

#[tokio::test]
async fn a_call_without_a_client_at_a_modern_upstream_is_closed() {
    for (what, withdraw, _) in WITHDRAWALS {
        let streams = OpenStreams::default();
        let opened = streams.clone();
        let upstream = Upstream::start(move |_| opened.open(NOTIFICATION)).await;
        let mut edge = before_that(&upstream, what);
        mcp(&mut edge.snapshot.resources.upstreams[0]).legacy_version.clear();
        edge.publish();
        let session = edge.session("2025-11-25", "{}").await;
        let mut call = edge.request("POST", &[("mcp-session-id", &session)], CALL).send().await.unwrap();
        until(&mut call, "notifications/x").await;
        drop(call);
        edge.nothing_is_left().await;
        assert_eq!(streams.count(), 1, "it goes on");
        withdraw(&mut edge);
        edge.publish();
        streams.none_is_left().await;
    }
}

/// A client that calls and hangs up, again and again, keeps no more calls going than its share of what may be in flight.
#[tokio::test]
async fn as_many_calls_go_on_without_their_clients_as_are_left_for_others() {
    let limits = Limits { max_in_flight: 4, ..Limits::default() };
    for (era, first) in [("legacy", ""), ("legacy", "notifications/x"), ("modern", "notifications/x")] {
        let streams = OpenStreams::default();
        let opened = streams.clone();
        let start = if first.is_empty() { ": \n\n" } else { NOTIFICATION };
        let upstream = Upstream::start(move |request| match request.verb.as_str() {
            "GET" => status(405, ""),
            _ => opened.open(start),
        })
        .await;
        let mut edge = Edge::limited(&upstream.url, limits.clone());
        edge.snapshot.resources.upstreams[0].request_timeout =
            Some(prost_types::Duration { seconds: 600, nanos: 0 });
        speaks(&mut edge.snapshot, era);
        edge.publish();
        let session = edge.session("2025-06-18", "{}").await;
        for number in 1..=3 {
            let call = edge.request("POST", &[("mcp-session-id", &session)], CALL).send();
            if first.is_empty() {
                let call = tokio::spawn(call);
                eventually("the call arrives", || upstream.calls("tools/call").len() == number).await;
                call.abort();
            } else {
                until(&mut call.await.unwrap(), first).await;
            }
            edge.nothing_is_left().await;
        }
        eventually("the third ends", || streams.count() == 2).await;
        assert_eq!(edge.metrics.calls_without_client.get(), 2, "at a {era} upstream");
        if era == "legacy" {
            let is_told = || upstream.calls("notifications/cancelled").len() == 1;
            eventually("the upstream is told", is_told).await;
        }
    }
}

/// A connection may end before its calls were looked at, or after.
#[tokio::test]
async fn calls_on_connections_are_cancelled() {
    for (what, withdraw, _) in WITHDRAWALS {
        for connection in ["websocket", "modern websocket", "sse"] {
            let upstream = endless().await;
            let mut edge = before_that(&upstream, what);
            let (mut socket, mut sse);
            let begun = match connection {
                "websocket" => {
                    socket = Socket::session(&edge, "2025-06-18", "{}").await;
                    socket.ask(CALL).await
                }
                "modern websocket" => {
                    mcp(&mut edge.snapshot.resources.upstreams[0]).modern_versions.clear();
                    edge.publish();
                    socket = Socket::open(&edge).await;
                    let call =
                        ask("\"c\"", "tools/call", r#""name":"u_echo","#, "{}", r#","progressToken":"t""#);
                    socket.ask(&call).await
                }
                _ => {
                    sse = Sse::session(&edge, "2024-11-05", "{}").await;
                    sse.ask(CALL).await
                }
            };
            assert!(begun.contains(r#""progressToken":"t""#), "{begun}");
            withdraw(&mut edge);
            edge.publish();
            cancelled(&upstream).await;
        }
    }
}

#[tokio::test]
async fn a_stream_that_was_resumed_ends_and_its_upstream_is_told() {
    for (what, withdraw, code) in WITHDRAWALS {
        let upstream = Upstream::start(|request| match request.verb.as_str() {
            "GET" => open_stream(NOTIFICATION),
            _ => open_stream("id: e/1\nretry: 20\ndata:\n\n"),
        })
        .await;
        let mut edge = before_that(&upstream, what);
        let session = edge.session("2025-11-25", "{}").await;
        let headers = [("mcp-session-id", session.as_str())];
        let mut broken = edge.request("POST", &headers, CALL).send().await.unwrap();
        let primed = until(&mut broken, "\n\n").await;
        drop(broken);
        let id = primed.strip_prefix("id: ").and_then(|rest| rest.lines().next()).unwrap();
        let again = [headers[0], ("last-event-id", id)];
        let mut stream = edge.request("GET", &again, "").send().await.unwrap();
        until(&mut stream, "notifications/x").await;
        withdraw(&mut edge);
        edge.publish();
        assert_eq!(last_code(&rest(stream).await), code, "{what}");
        let is_told = || !upstream.calls("notifications/cancelled").is_empty();
        eventually("the upstream is told", is_told).await;
        edge.nothing_is_left().await;
    }
}
