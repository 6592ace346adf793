//! Tasks that one stream of a client is notified of. It must not know how they are watched.

use std::borrow::Cow;

use mcp::extension::{self, declares_tasks};
use mcp::json;
use mcp::meta;
use mcp::method::Method;
use mcp::revision::Era;

use super::strings;
use crate::context::RequestContext;
use crate::error::Failure;
use crate::policy::{self, Arguments, Caller, Masks, Permit};
use crate::route::{NamedTarget, TargetKind};
use crate::transport::Message;
use crate::upstream::{self, Task};

/// The member of `notifications` that lists them.
pub(super) const TASKS: &str = "taskIds";

/// A task, and the id that its owner knows it by.
pub(super) struct WatchedTask {
    pub(super) id: Box<str>,
    pub(super) task: Task,
}

/// Returns the permit for the tool that began a task, which is also the right to ask about it, or watch it, by `method`.
pub fn permit(caller: &Caller<'_>, method: Method, task: &Task) -> Option<Permit> {
    let named = NamedTarget::of(TargetKind::Tool, &task.tool);
    let permit = policy::check(caller, method, &named, Arguments::Judged(task.judged_by)).ok()?;
    permit.leads_to(&task.upstream, &task.original).then_some(permit)
}

/// Reads the tasks that a client wants to watch, except those that are not its own or that cannot be followed: an
/// upstream of the modern era announces them, and in the legacy era they are polled.
pub(super) fn requested(
    context: &RequestContext<'_>,
    message: &Message<'_>,
    raw: Option<&str>,
) -> Result<Vec<WatchedTask>, Failure> {
    if raw.is_some() && !message.params.capabilities.is_some_and(declares_tasks) {
        return Err(Failure::Extension(extension::TASKS));
    }
    let open = |id: String| {
        let task = Task::open(&context.snapshot.trust, context.owner(), &id)?;
        let permit = permit(&context.caller, Method::SubscriptionsListen, &task)?;
        let upstream = &permit.entry().upstream;
        let followed = upstream.speaks(task.era())
            && (task.era() == Era::Legacy || declares_tasks(upstream.capabilities(Era::Modern)));
        followed.then(|| WatchedTask { id: id.into(), task })
    };
    Ok(strings(raw, TASKS)?.into_iter().filter_map(open).collect())
}

/// Renders the notification of a task's state, on the stream that the request of this raw id opened; `None` where it cannot be read.
pub(super) fn status_notification(params: &str, subscription: &str, masks: Option<&Masks>) -> Option<String> {
    let params = match masks {
        None => params.into(),
        Some(masks) => Cow::from(upstream::task_without(params, masks).ok()?),
    };
    let [theirs] = json::members(&params, [meta::META]).ok()?;
    let theirs = theirs.filter(|meta| meta.starts_with('{')).unwrap_or("{}");
    let ours = json::set_members(theirs, &[(meta::SUBSCRIPTION_ID, Some(subscription))]).ok()?;
    let params = json::set_members(&params, &[(meta::META, Some(&ours))]).ok()?;
    Some(format!(r#"{{"jsonrpc":"2.0","method":"{}","params":{params}}}"#, Method::TasksChanged))
}
