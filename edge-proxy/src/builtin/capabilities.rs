//! What a virtual server tells one caller it can do: what the upstreams that the caller reaches can, across eras too.

use mcp::extension::declares_tasks;
use mcp::json;
use mcp::revision::{Era, Revision};

use crate::snapshot::{Upstream, View};

/// Whether calls of a server may go on as tasks. Modern clients are handed those of both eras.
pub fn offers_tasks(view: &View, revision: Revision) -> bool {
    let era = revision.era();
    let known = |upstream: &Upstream| match (era, upstream.side_for(era)) {
        (Era::Modern, Some(Era::Modern)) => declares_tasks(&upstream.modern_capabilities),
        (_, Some(Era::Legacy)) => upstream.makes_tasks(),
        _ => false,
    };
    revision >= Revision::V2025_11_25 && view.upstreams().iter().any(|upstream| known(upstream))
}

/// What a server says of its tasks: each era has its own word.
fn tasks(view: &View, revision: Revision) -> Option<&'static str> {
    let cancels = || view.upstreams().iter().any(|upstream| upstream.cancels_tasks());
    offers_tasks(view, revision).then(|| match revision.era() {
        Era::Modern => r#""extensions":{"io.modelcontextprotocol/tasks":{}}"#,
        Era::Legacy if cancels() => r#""tasks":{"cancel":{},"requests":{"tools":{"call":{}}}}"#,
        Era::Legacy => r#""tasks":{"requests":{"tools":{"call":{}}}}"#,
    })
}

/// The `capabilities` of a server towards a caller that sees this of it, in `revision`: a JSON object.
pub fn of_view(view: &View, revision: Revision) -> String {
    let era = revision.era();
    let any = |said: &dyn Fn(&Upstream) -> bool| view.upstreams().iter().any(|upstream| said(upstream));
    let offers = |key: &str| any(&|upstream| has(upstream, key, upstream.side_for(era)));
    // A gateway's tools come and go, so the list is worth asking for even where it is empty now.
    let resources;
    let mut parts = vec![r#""tools":{"listChanged":true}"#];
    if offers("resources") || view.resources.count() > 0 || view.resource_templates.count() > 0 {
        let subscribe = any(&|upstream| told_in(upstream, era).is_some());
        let subscribe = if subscribe { r#""subscribe":true,"# } else { "" };
        resources = format!(r#""resources":{{{subscribe}"listChanged":true}}"#);
        parts.push(&resources);
    }
    if offers("prompts") || view.prompts.count() > 0 {
        parts.push(r#""prompts":{"listChanged":true}"#);
    }
    parts.extend(tasks(view, revision));
    if offers("completions") {
        parts.push(r#""completions":{}"#);
    }
    if offers("logging") {
        parts.push(r#""logging":{}"#);
    }
    format!("{{{}}}", parts.join(","))
}

fn has(upstream: &Upstream, key: &str, side: Option<Era>) -> bool {
    let value = |era| json::members(upstream.capabilities(era), [key]);
    side.is_some_and(|era| value(era).is_ok_and(|[value]| value.is_some()))
}

/// The era in which an upstream tells of changed resources; that of the client where it does in both.
pub fn told_in(upstream: &Upstream, client: Era) -> Option<Era> {
    let other = if client == Era::Modern { Era::Legacy } else { Era::Modern };
    [client, other].into_iter().find(|era| tells(upstream, *era))
}

/// Whether an upstream says in its capabilities that it tells of changed resources.
fn tells(upstream: &Upstream, era: Era) -> bool {
    let [resources] = json::members(upstream.capabilities(era), ["resources"]).unwrap_or_default();
    let subscribe = resources.and_then(|resources| json::members(resources, ["subscribe"]).ok());
    upstream.speaks(era) && subscribe.is_some_and(|[flag]| flag == Some("true"))
}
