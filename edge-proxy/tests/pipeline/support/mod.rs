//! An edge in this process, upstreams that record, and clients that say exactly what they are told to.

mod control_plane;
mod edge;
mod fleet;
mod snapshot;
mod sse;
mod talker;
mod tasks;
pub(crate) mod tls;
mod upstream;
mod websocket;

pub(crate) use control_plane::{ControlPlane, EXPIRES};
pub(crate) use edge::{Edge, Reply};
pub(crate) use fleet::TestFleet;
pub(crate) use snapshot::{
    Keys, TestSnapshot, approve, deny, gid, mcp, pair, person_claims, role, team, uid_of, withdrawal,
};
pub(crate) use sse::Sse;
pub(crate) use talker::{KINDS, Talker, id, result};
pub(crate) use tasks::{making, task};
pub(crate) use upstream::{Recorded, Upstream, events, json, never, once_told, status};
pub(crate) use websocket::Socket;

/// How long anything may take: generous, since machines are slow at times.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"));
}

/// Leaves the upstream of a snapshot one era: `legacy`, or the modern one.
pub(crate) fn speaks(snapshot: &mut TestSnapshot, era: &str) {
    let mcp = mcp(&mut snapshot.resources.upstreams[0]);
    match era {
        "legacy" => mcp.modern_versions.clear(),
        _ => mcp.legacy_version.clear(),
    }
}

/// An edge before an upstream that speaks one era.
pub(crate) fn edge_before(upstream: &Upstream, era: &str) -> Edge {
    let mut edge = Edge::start(&upstream.url);
    speaks(&mut edge.snapshot, era);
    edge.publish();
    edge
}

/// Headers of a modern request for `method`, about `name` where there is one.
pub(crate) fn modern<'a>(method: &'a str, name: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let mut headers = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
    headers.extend(name.map(|name| ("mcp-name", name)));
    headers
}

/// `_meta` of a modern request, to stand in its params.
pub(crate) const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

/// The body of an `initialize`.
pub(crate) fn initialize(revision: &str, capabilities: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{revision}","capabilities":{capabilities},"clientInfo":{{"name":"test","version":"1"}}}}}}"#
    )
}
