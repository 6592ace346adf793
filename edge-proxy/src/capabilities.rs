//! What a virtual server tells clients it can do: what its upstreams can and the edge can lead to.

use mcp::json;
use mcp::revision::Era;

use crate::snapshot::{Server, Upstream};

/// The `capabilities` of a server: a JSON object.
pub fn of_server(server: &Server, era: Era) -> String {
    let offers = |key: &str| {
        server.upstreams.iter().any(|upstream| offers(upstream, key, &[Era::Legacy, Era::Modern]))
    };
    let offers_here = |key: &str| server.upstreams.iter().any(|upstream| self::offers(upstream, key, &[era]));
    // A gateway's tools come and go, so the list is worth asking for even where it is empty now.
    let mut parts = vec![r#""tools":{"listChanged":true}"#];
    if offers("resources")
        || !server.resources.entries.is_empty()
        || !server.resource_templates.entries.is_empty()
    {
        parts.push(r#""resources":{"listChanged":true}"#);
    }
    if offers("prompts") || !server.prompts.entries.is_empty() {
        parts.push(r#""prompts":{"listChanged":true}"#);
    }
    if offers_here("completions") {
        parts.push(r#""completions":{}"#);
    }
    if offers_here("logging") {
        parts.push(r#""logging":{}"#);
    }
    format!("{{{}}}", parts.join(","))
}

fn offers(upstream: &Upstream, key: &str, eras: &[Era]) -> bool {
    eras.iter().any(|era| {
        let capabilities = match era {
            Era::Legacy => &upstream.legacy_capabilities,
            Era::Modern => &upstream.modern_capabilities,
        };
        upstream.speaks(*era) && json::members(capabilities, [key]).is_ok_and(|[value]| value.is_some())
    })
}
