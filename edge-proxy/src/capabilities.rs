//! What a virtual server tells clients it can do: what its upstreams can and the edge can lead to.

use mcp::json;
use mcp::revision::{Era, Revision};

use crate::snapshot::{Server, Upstream};
use crate::upstream::knows_tasks;

/// The era that clients which may choose are led to: the one in which all of a server can be called.
pub fn offered_era(server: &Server) -> Era {
    let whole = |era| server.upstreams.iter().all(|upstream| upstream.speaks(era));
    if whole(Era::Legacy) && !whole(Era::Modern) { Era::Legacy } else { Era::Modern }
}

/// Whether calls of a server may go on as tasks.
pub fn offers_tasks(server: &Server, era: Era) -> bool {
    let known = |upstream: &Upstream| upstream.speaks(era) && knows_tasks(&upstream.modern_capabilities);
    era == Era::Modern && server.upstreams.iter().any(|upstream| known(upstream))
}

/// The revisions of an era: a JSON array.
pub fn revisions(era: Era) -> String {
    let revisions = Revision::ALL.into_iter().filter(|revision| revision.era() == era);
    let quoted: Vec<String> = revisions.map(|revision| json::quote(revision.as_str())).collect();
    format!("[{}]", quoted.join(","))
}

/// The `capabilities` of a server: a JSON object.
pub fn of_server(server: &Server, era: Era) -> String {
    let offers = |key: &str| {
        server.upstreams.iter().any(|upstream| offers(upstream, key, &[Era::Legacy, Era::Modern]))
    };
    let offers_here = |key: &str| server.upstreams.iter().any(|upstream| self::offers(upstream, key, &[era]));
    // A gateway's tools come and go, so the list is worth asking for even where it is empty now.
    let resources;
    let mut parts = vec![r#""tools":{"listChanged":true}"#];
    if offers("resources")
        || !server.resources.entries.is_empty()
        || !server.resource_templates.entries.is_empty()
    {
        let subscribe = server.upstreams.iter().any(|upstream| tells(upstream, era));
        let subscribe = if subscribe { r#""subscribe":true,"# } else { "" };
        resources = format!(r#""resources":{{{subscribe}"listChanged":true}}"#);
        parts.push(&resources);
    }
    if offers("prompts") || !server.prompts.entries.is_empty() {
        parts.push(r#""prompts":{"listChanged":true}"#);
    }
    if offers_tasks(server, era) {
        parts.push(r#""extensions":{"io.modelcontextprotocol/tasks":{}}"#);
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

/// Whether an upstream says in its capabilities that it tells of changed resources.
pub fn tells(upstream: &Upstream, era: Era) -> bool {
    let capabilities = match era {
        Era::Legacy => &upstream.legacy_capabilities,
        Era::Modern => &upstream.modern_capabilities,
    };
    let [resources] = json::members(capabilities, ["resources"]).unwrap_or_default();
    let subscribe = resources.and_then(|resources| json::members(resources, ["subscribe"]).ok());
    upstream.speaks(era) && subscribe.is_some_and(|[flag]| flag == Some("true"))
}
