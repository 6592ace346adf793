//! The capabilities of a virtual server towards one caller: those of the upstreams that it reaches, across eras.

use mcp::extension::declares_tasks;
use mcp::json;
use mcp::method::Method;
use mcp::revision::{Era, Revision};

use crate::policy::Caller;
use crate::snapshot::{List, Upstream, View};

/// Returns whether calls of a server may become tasks. Modern clients get those of both eras.
pub fn offers_tasks(view: &View, revision: Revision) -> bool {
    let era = revision.era();
    let known = |upstream: &Upstream| match (era, upstream.side_for(era)) {
        (Era::Modern, Some(Era::Modern)) => declares_tasks(upstream.capabilities(Era::Modern)),
        (_, Some(Era::Legacy)) => upstream.makes_tasks(),
        _ => false,
    };
    revision >= Revision::V2025_11_25
        && view.listed_upstreams(List::Tools).iter().any(|upstream| known(upstream))
}

/// Renders the member that declares tasks, which each era names differently.
fn tasks(caller: &Caller<'_>, revision: Revision) -> Option<&'static str> {
    let view = caller.view();
    let cancels = || view.listed_upstreams(List::Tools).iter().any(|upstream| upstream.cancels_tasks());
    let offered = offers_tasks(view, revision) && caller.may_use(Method::TasksGet);
    offered.then(|| match revision.era() {
        Era::Modern => r#""extensions":{"io.modelcontextprotocol/tasks":{}}"#,
        Era::Legacy if cancels() => r#""tasks":{"cancel":{},"requests":{"tools":{"call":{}}}}"#,
        Era::Legacy => r#""tasks":{"requests":{"tools":{"call":{}}}}"#,
    })
}

/// Renders the `capabilities` of a server towards a caller, in `revision`: a JSON object. A capability is there if the caller
/// may use something by it.
pub fn of_caller(caller: &Caller<'_>, revision: Revision) -> String {
    let view = caller.view();
    let (era, visible) = (revision.era(), &view.visible);
    let offers =
        |key: &str| view.upstreams().iter().any(|upstream| has(upstream, key, upstream.side_for(era)));
    let resources;
    let mut parts = Vec::new();
    // A gateway's tools come and go, so the list is worth requesting even while it is empty.
    if visible.has_tool_globs {
        parts.push(r#""tools":{"listChanged":true}"#);
    }
    let readable = view.readable_upstreams();
    if !readable.is_empty() || visible.awaits_resources && offers("resources") {
        let subscribe =
            may_subscribe(caller, era) && readable.iter().any(|upstream| update_era(upstream, era).is_some());
        let subscribe = if subscribe { r#""subscribe":true,"# } else { "" };
        resources = format!(r#""resources":{{{subscribe}"listChanged":true}}"#);
        parts.push(&resources);
    }
    if visible.prompts.count() > 0 || visible.awaits_prompts && offers("prompts") {
        parts.push(r#""prompts":{"listChanged":true}"#);
    }
    parts.extend(tasks(caller, revision));
    if completes(view, era) && caller.may_use(Method::CompletionComplete) {
        parts.push(r#""completions":{}"#);
    }
    // Modern clients set the level with each request.
    if (era == Era::Modern || caller.may_use(Method::LoggingSetLevel)) && offers("logging") {
        parts.push(r#""logging":{}"#);
    }
    format!("{{{}}}", parts.join(","))
}

/// Returns whether a caller may be told of changed resources.
fn may_subscribe(caller: &Caller<'_>, era: Era) -> bool {
    caller.may_use(subscribing_method(era))
}

/// The method by which clients of an era ask to be told of changed resources.
pub(super) fn subscribing_method(era: Era) -> Method {
    match era {
        Era::Legacy => Method::ResourcesSubscribe,
        Era::Modern => Method::SubscriptionsListen,
    }
}

/// Returns whether an upstream completes arguments of something that is listed to the caller.
fn completes(view: &View, era: Era) -> bool {
    let lists = [List::Prompts, List::Resources, List::ResourceTemplates];
    let mut upstreams = lists.into_iter().flat_map(|list| view.listed_upstreams(list));
    upstreams.any(|upstream| has(upstream, "completions", upstream.side_for(era)))
}

fn has(upstream: &Upstream, key: &str, side: Option<Era>) -> bool {
    let value = |era| json::members(upstream.capabilities(era), [key]);
    side.is_some_and(|era| value(era).is_ok_and(|[value]| value.is_some()))
}

/// Returns the era in which an upstream announces changed resources; the client's own where it does in both.
pub fn update_era(upstream: &Upstream, client: Era) -> Option<Era> {
    let other = if client == Era::Modern { Era::Legacy } else { Era::Modern };
    [client, other].into_iter().find(|era| announces_updates(upstream, *era))
}

/// Returns whether an upstream declares that it announces changed resources.
fn announces_updates(upstream: &Upstream, era: Era) -> bool {
    let [resources] = json::members(upstream.capabilities(era), ["resources"]).unwrap_or_default();
    let subscribe = resources.and_then(|resources| json::members(resources, ["subscribe"]).ok());
    upstream.speaks(era) && subscribe.is_some_and(|[flag]| flag == Some("true"))
}
