//! Translates the ids of tasks in an upstream's messages into those that the client was given, or removes them where it
//! knows of no task.
//!
//! It must not know how clients ask about them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use mcp::extension::declares_tasks;
use mcp::header::{PROTOCOL_VERSION, SESSION_ID};
use mcp::json::{self, JsonError};
use mcp::message::{Envelope, span};
use mcp::meta;
use mcp::method::Method;
use mcp::revision::Revision;
use mcp::splice::Splice;
use memchr::memmem;

use super::session::UpstreamSession;
use super::task::{self, Task};
use super::translation::{Translated, Translation, UpstreamEra};
use crate::error::Fault;
use crate::snapshot::TaskSupport;
use crate::upstream::call::Call;

/// The tasks that the messages of a call may concern.
#[derive(Debug, Clone)]
pub(super) enum CallTasks {
    /// None.
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
    /// One that the edge waits for in place of a client that does not know of it.
    Awaited {
        /// Its raw id.
        id: Box<str>,
        /// Its progress token.
        progress: u64,
        /// Whether its cancellation was sent, which happens once.
        cancelled: Rc<Cell<bool>>,
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

    /// Returns those of a modern client's call at a modern upstream. Only clients that declared the extension see
    /// tasks.
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

    /// Returns a task that the edge waits for.
    pub(super) fn awaited(id: &str, progress: u64) -> Self {
        Self::Awaited { id: id.into(), progress, cancelled: Rc::default() }
    }
}

impl CallTasks {
    /// Returns a finished task, whose result is fetched and which needs no cancellation.
    pub(super) fn finished(id: &str) -> Self {
        Self::Awaited { id: json::quote(id).into(), progress: 0, cancelled: Rc::new(Cell::new(true)) }
    }
}

impl Translation {
    /// The raw id of the task that the edge waits for.
    pub(super) fn awaited_task(&self) -> Option<&str> {
        match &self.tasks {
            CallTasks::Awaited { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The progress token at the upstream, where the request there has this number.
    pub(super) fn progress_token(&self, number: u64) -> u64 {
        match &self.tasks {
            CallTasks::Awaited { progress, .. } => *progress,
            _ => number,
        }
    }

    /// The longest silence of its upstream.
    pub(super) fn response_timeout(&self) -> Duration {
        match &self.tasks {
            CallTasks::Awaited { .. } => task::MAX_LIFETIME,
            CallTasks::Known { .. } if self.method == Method::TasksResult => task::MAX_LIFETIME,
            _ => self.upstream.request_timeout,
        }
    }

    /// Returns the request that cancels the awaited task, once.
    pub(super) fn take_cancellation(&self, number: u64) -> Option<Bytes> {
        match &self.tasks {
            CallTasks::Awaited { id, cancelled, .. } if !cancelled.replace(true) => {
                Some(task::request(Method::TasksCancel, number, id))
            }
            _ => None,
        }
    }

    /// Translates the related task in the metadata of a message. Only the legacy era has it.
    pub(super) fn translate_related_task(&self, message: Bytes) -> Result<Bytes, JsonError> {
        if matches!(self.tasks, CallTasks::None | CallTasks::Created { .. })
            || matches!(self.upstream_era, UpstreamEra::Modern { .. })
            || memmem::find(&message, meta::RELATED_TASK.as_bytes()).is_none()
        {
            return Ok(message);
        }
        let Ok(envelope) = Envelope::parse(&message) else { return Ok(message) };
        let Some(outer) = envelope.params.or(envelope.result) else { return Ok(message) };
        let [raw] = json::members(outer, [meta::META])?;
        let Some(raw) = raw.filter(|raw| raw.starts_with('{')) else { return Ok(message) };
        let replacement = match &self.tasks {
            CallTasks::Known { ours, .. } => Some(format!(r#"{{"taskId":{ours}}}"#)),
            _ => None,
        };
        let translated = json::set_members(raw, &[(meta::RELATED_TASK, replacement.as_deref())])?;
        Ok(Splice::new().replace(span(&message, raw), translated).apply(&message))
    }

    /// Translates the status of a task if the client's request names it; others are ignored.
    pub(super) fn task_status(&self, message: &Bytes, envelope: &Envelope<'_>) -> Result<Translated, Fault> {
        let CallTasks::Known { ours, theirs } = &self.tasks else { return Ok(Translated::Ignore) };
        let [raw] = json::members(envelope.params.unwrap_or("{}"), ["taskId"])
            .map_err(|error| Fault::Malformed(error.to_string()))?;
        let Some(raw) = raw.filter(|raw| json::string(raw).is_ok_and(|id| id == **theirs)) else {
            return Ok(Translated::Ignore);
        };
        Ok(Translated::Forward(Splice::new().replace(span(message, raw), ours.to_string()).apply(message)))
    }

    /// Translates the id of the task in a result.
    pub(super) fn edit_task<'a>(
        &self,
        edits: Splice<'a>,
        message: &Bytes,
        result: &'a str,
    ) -> Result<Splice<'a>, Fault> {
        let malformed = |error: JsonError| Fault::Malformed(error.to_string());
        let replaced = match &self.tasks {
            CallTasks::None | CallTasks::Awaited { .. } => None,
            CallTasks::Created { tool } => self.created(tool, result)?,
            CallTasks::Known { ours, .. } => {
                let [id] = json::members(result, ["taskId"]).map_err(malformed)?;
                id.map(|id| (id, ours.to_string()))
            }
        };
        Ok(match replaced {
            Some((raw, translated)) => edits.replace(span(message, raw), translated),
            None => edits,
        })
    }

    /// Returns the raw id of a task that the call created, and the one that the client is given.
    pub(super) fn created<'a>(
        &self,
        tool: &str,
        result: &'a str,
    ) -> Result<Option<(&'a str, String)>, Fault> {
        let malformed = |error: JsonError| Fault::Malformed(error.to_string());
        let raw = match &self.upstream_era {
            UpstreamEra::Modern { .. } => {
                let [kind, id] = json::members(result, ["resultType", "taskId"]).map_err(malformed)?;
                id.filter(|_| kind == Some(r#""task""#))
            }
            UpstreamEra::Legacy { session, .. } => {
                let [created] = json::members(result, ["task"]).map_err(malformed)?;
                let Some(created) = created else { return Ok(None) };
                let [id, ttl] = json::members(created, ["taskId", "ttl"]).map_err(malformed)?;
                session.keep_for(task::lifetime(ttl));
                id
            }
        };
        let Some(raw) = raw else { return Ok(None) };
        let id = json::string(raw).map_err(malformed)?.into_owned();
        let sealed = self.task(tool, id).seal(&self.trust, self.owner());
        let sealed = sealed.map_err(|error| Fault::Malformed(error.to_string()))?;
        Ok(Some((raw, json::quote(&sealed))))
    }

    /// Returns the task of this id in the session of the call.
    fn task(&self, tool: &str, id: String) -> Task {
        let (session, version) = match &self.upstream_era {
            UpstreamEra::Legacy { session, .. } => session_headers(session),
            UpstreamEra::Modern { .. } => Default::default(),
        };
        Task { upstream: self.upstream.id.to_string(), tool: tool.to_owned(), id, session, version }
    }
}

/// Returns the id and the revision of a session; a connection has no id.
fn session_headers(session: &UpstreamSession) -> (Box<[u8]>, Box<[u8]>) {
    let header =
        |name: &str| session.headers().and_then(|headers| headers.get(name)).map(HeaderValue::as_bytes);
    let version = header(PROTOCOL_VERSION).unwrap_or(Revision::LATEST_LEGACY.as_str().as_bytes());
    (header(SESSION_ID).unwrap_or_default().into(), version.into())
}
