//! Tasks that one stream of a client is told about. It must not know how they are watched.

use mcp::extension::{self, declares_tasks};
use mcp::json;
use mcp::meta;
use mcp::method::Method;
use mcp::revision::Era;

use super::strings;
use crate::error::Failure;
use crate::policy::{self, Permit};
use crate::route::{Named, Noun};
use crate::scene::Scene;
use crate::snapshot::View;
use crate::transport::Message;
use crate::upstream::Task;

/// The member of `notifications` that names them.
pub(super) const TASKS: &str = "taskIds";

/// A task, and the id that its owner knows it by.
pub(super) struct Followed {
    pub(super) id: Box<str>,
    pub(super) task: Task,
    /// The right to call what began it.
    pub(super) permit: Permit,
}

/// The right to call what began a task, which is the right to hear of it.
pub fn permit(view: &View, task: &Task) -> Option<Permit> {
    let permit = policy::permit(view, &Named::of(Noun::Tool, &task.tool))?;
    (*permit.entry().upstream.id == *task.upstream).then_some(permit)
}

/// The tasks that a client wants to hear of, but for those that it does not own or nobody tells of.
pub(super) fn followed(
    scene: &Scene<'_>,
    message: &Message<'_>,
    raw: Option<&str>,
) -> Result<Vec<Followed>, Failure> {
    if raw.is_some() && !message.params.capabilities.is_some_and(declares_tasks) {
        return Err(Failure::Extension(extension::TASKS));
    }
    let open = |id: String| {
        let task = Task::open(&scene.snapshot.trust, scene.owner(), &id)?;
        let permit = permit(scene.view, &task)?;
        let upstream = &permit.entry().upstream;
        let told = task.era() == Era::Modern
            && upstream.speaks(Era::Modern)
            && declares_tasks(&upstream.modern_capabilities);
        told.then(|| Followed { id: id.into(), task, permit })
    };
    Ok(strings(raw, TASKS)?.into_iter().filter_map(open).collect())
}

/// The notification of how a task stands, on the stream that the request of this raw id opened.
pub(super) fn stands(params: &str, subscription: &str) -> Result<String, json::JsonError> {
    let [theirs] = json::members(params, [meta::META])?;
    let theirs = theirs.filter(|meta| meta.starts_with('{')).unwrap_or("{}");
    let ours = json::set_members(theirs, &[(meta::SUBSCRIPTION_ID, Some(subscription))])?;
    let params = json::set_members(params, &[(meta::META, Some(&ours))])?;
    Ok(format!(r#"{{"jsonrpc":"2.0","method":"{}","params":{params}}}"#, Method::TasksChanged))
}
