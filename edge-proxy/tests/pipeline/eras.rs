//! Clients of one era and upstreams of the other: what each of them is sent, byte for byte.

mod calls;
mod input_required;
mod parked;
mod subscriptions;
mod tasks;

use trunkline_edge_proxy::config::limits::Limits;

use crate::support::{Edge, PATIENCE, Recorded, TestSnapshot, Upstream, mcp};

/// An edge whose upstream speaks the legacy era alone.
pub(crate) fn legacy_only(upstream: &Upstream) -> Edge {
    legacy_limited(upstream, Limits::default())
}

fn legacy_limited(upstream: &Upstream, limits: Limits) -> Edge {
    let mut edge = Edge::limited(&upstream.url, limits);
    speaks_legacy_alone(&mut edge.snapshot);
    edge.publish();
    edge
}

fn speaks_legacy_alone(snapshot: &mut TestSnapshot) {
    mcp(&mut snapshot.resources.upstreams[0]).modern_versions.clear();
    mcp(&mut snapshot.resources.upstreams[0]).modern_capabilities_json.clear();
}

/// An edge whose upstream speaks the modern era alone.
pub(crate) fn modern_only(upstream: &Upstream) -> Edge {
    let mut edge = Edge::start(&upstream.url);
    mcp(&mut edge.snapshot.resources.upstreams[0]).legacy_version.clear();
    mcp(&mut edge.snapshot.resources.upstreams[0]).legacy_capabilities_json.clear();
    edge.publish();
    edge
}

/// A modern request for `method` with these params, and `_meta` with these capabilities and more.
pub(crate) fn ask(id: &str, method: &str, params: &str, capabilities: &str, more: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{capabilities}{more}}}}}}}"#
    )
}

fn result(request: &Recorded, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request.id())
}

/// An open stream that begins with this.
pub(crate) fn open_stream(start: &str) -> axum::response::Response {
    open_body("text/event-stream", start)
}

/// A body under this label that begins so, and stays open.
pub(crate) fn open_body(label: &str, start: &str) -> axum::response::Response {
    use futures_util::StreamExt as _;
    let start = Ok::<_, std::convert::Infallible>(bytes::Bytes::from(start.to_owned()));
    let body = futures_util::stream::iter([start]).chain(futures_util::stream::pending());
    let body = axum::body::Body::from_stream(body);
    axum::response::Response::builder().header("content-type", label).body(body).unwrap()
}

/// The next message of a stream.
pub(crate) async fn next_message(response: &mut reqwest::Response) -> String {
    let mut seen = String::new();
    let read = async {
        while !seen.contains("\n\n") {
            let chunk = response.chunk().await.unwrap().expect("the stream goes on");
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("a message in time");
    seen.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).expect("one event").to_owned()
}
