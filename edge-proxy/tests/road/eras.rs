//! Clients of one era and upstreams of the other: what each of them is sent, byte for byte.

mod calls;

use crate::support::{Edge, Upstream};

/// An edge whose upstream speaks the legacy era alone.
fn legacy_only(upstream: &Upstream) -> Edge {
    let mut edge = Edge::start(&upstream.url);
    edge.world.resources.upstreams[0].modern_versions.clear();
    edge.world.resources.upstreams[0].modern_capabilities_json.clear();
    edge.publish();
    edge
}

/// An edge whose upstream speaks the modern era alone.
fn modern_only(upstream: &Upstream) -> Edge {
    let mut edge = Edge::start(&upstream.url);
    edge.world.resources.upstreams[0].legacy_version.clear();
    edge.world.resources.upstreams[0].legacy_capabilities_json.clear();
    edge.publish();
    edge
}

/// A modern request for `method` with these params, and `_meta` with these capabilities and more.
fn ask(id: &str, method: &str, params: &str, capabilities: &str, more: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{capabilities}{more}}}}}}}"#
    )
}
