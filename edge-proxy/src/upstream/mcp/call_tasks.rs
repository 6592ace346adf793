//! The tasks that the messages of a call may concern, where its client and its upstream are of one era.

use mcp::extension::declares_tasks;
use mcp::json;
use mcp::method::Method;
use mcp::revision::Revision;

use super::session::UpstreamSession;
use super::task::{self, Task};
use super::translator::CallContext;
use super::{MAX_KEPT, malformed};
use crate::error::Fault;
use crate::snapshot::TaskSupport;
use crate::upstream::Call;

/// The tasks that the messages of a call may concern.
#[derive(Debug, Clone)]
pub(super) enum CallTasks {
    None,
    /// One that the call creates.
    Created {
        /// The exposed name of the tool.
        tool: Box<str>,
    },
    /// The one that the client's request names.
    Known {
        /// The raw id that the client wrote.
        ours: Box<str>,
        /// Its id at the upstream.
        theirs: Box<str>,
    },
}

impl CallTasks {
    /// Returns those of a legacy client's call: the one that it names, or the one that it asks to be created.
    pub(super) fn of_legacy(call: &Call<'_>) -> Self {
        if let Some((task, raw)) = &call.task {
            return Self::Known { ours: (*raw).into(), theirs: task.id.as_str().into() };
        }
        if call.permit.entry().tool.tasks == TaskSupport::Forbidden {
            return Self::None;
        }
        match json::members(call.message.envelope.params.unwrap_or("{}"), ["task"]) {
            Ok([Some(_)]) => Self::Created { tool: call.named.exposed.as_ref().into() },
            _ => Self::None,
        }
    }

    /// Returns those of a modern client's call. Only clients that declared the extension see tasks.
    pub(super) fn of_modern(call: &Call<'_>) -> Self {
        match &call.task {
            Some((task, raw)) => Self::Known { ours: (*raw).into(), theirs: task.id.as_str().into() },
            None if call.method == Method::ToolsCall
                && call.message.params.capabilities.is_some_and(declares_tasks) =>
            {
                Self::Created { tool: call.named.exposed.as_ref().into() }
            }
            None => Self::None,
        }
    }
}

/// Returns the raw id of a task that a call at a modern upstream created, and the one that the client is given.
pub(super) fn created<'a>(
    call: &CallContext,
    tool: &str,
    result: &'a str,
) -> Result<Option<(&'a str, String)>, Fault> {
    let [kind, id] = json::members(result, ["resultType", "taskId"]).map_err(malformed)?;
    let id = id.filter(|_| kind == Some(r#""task""#));
    id.map(|raw| Ok((raw, seal(call, tool, raw, <(Box<[u8]>, Box<[u8]>)>::default())?))).transpose()
}

/// Returns the raw id of a task that a call in this session created, and the one that the client is given. The session
/// is kept for as long as the task.
pub(super) fn created_in_session<'a>(
    call: &CallContext,
    session: &UpstreamSession,
    tool: &str,
    result: &'a str,
) -> Result<Option<(&'a str, String)>, Fault> {
    let [created] = json::members(result, ["task"]).map_err(malformed)?;
    let Some(created) = created else { return Ok(None) };
    let [id, ttl] = json::members(created, ["taskId", "ttl"]).map_err(malformed)?;
    session.keep_for(task::lifetime(ttl));
    id.map(|raw| Ok((raw, seal(call, tool, raw, address_of(session))?))).transpose()
}

/// Seals the raw id of a task; returns it raw.
fn seal(
    call: &CallContext,
    tool: &str,
    raw: &str,
    (session, version): (Box<[u8]>, Box<[u8]>),
) -> Result<String, Fault> {
    if raw.len() > MAX_KEPT {
        return Err(Fault::Malformed(format!("the id of a task is longer than {MAX_KEPT} bytes")));
    }
    let id = json::string(raw).map_err(malformed)?.into_owned();
    let task = Task {
        upstream: call.upstream.id.to_string(),
        tool: tool.to_owned(),
        original: call.active.original().to_owned(),
        judged_by: call.active.judged_by(),
        id,
        session,
        version,
    };
    Ok(json::quote(&task.seal(&call.trust, call.owner()).map_err(malformed)?))
}

/// Returns the address and the revision of a session; a connection has no address.
fn address_of(session: &UpstreamSession) -> (Box<[u8]>, Box<[u8]>) {
    let version = Some(session.version()).filter(|version| !version.is_empty());
    (session.address().into(), version.unwrap_or(Revision::LATEST_LEGACY.as_str().as_bytes()).into())
}
