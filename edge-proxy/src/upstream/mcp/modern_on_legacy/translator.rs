//! Translates the messages of a legacy upstream for a modern client.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use mcp::error as codes;
use mcp::json;
use mcp::message::{Envelope, Kind, span};
use mcp::method::Method;
use mcp::revision::Era;
use mcp::splice::Splice;
use tokio::time::Instant;

use super::ended_call::ParkedCallEnd;
use super::park::{self, PendingRequests, url_elicitation_required};
use crate::error::Fault;
use crate::session::LogLevel;
use crate::session::capabilities::Capabilities;
use crate::upstream::Context;
use crate::upstream::mcp::McpCall;
use crate::upstream::mcp::input_requests::{self, ServerRequest};
use crate::upstream::mcp::outcome::{outcome_of_code, outcome_of_result};
use crate::upstream::mcp::rewrite::responses::OwnResponse;
use crate::upstream::mcp::rewrite::{apply, notifications, responses, results, tasks};
use crate::upstream::mcp::task::{self, MAX_LIFETIME};
use crate::upstream::mcp::translator::{CallContext, CallInSession, HangUp, OwnId, Translated, Translator};
use crate::upstream::mcp::upstream_stream::UpstreamStream;
use crate::upstream::mcp::{call_tasks, malformed, session_messages};
use crate::usage::Outcome;

/// The translator of a modern client's call at a legacy upstream.
#[derive(Clone)]
pub(in crate::upstream) struct ModernOnLegacy {
    pub(super) call: CallContext,
    pub(super) in_session: CallInSession,
    pub(super) client: ModernClient,
    pub(super) task: CallTask,
    /// Server requests that the client must answer.
    pub(super) pending: PendingRequests,
    /// What its response ends, where a client has resumed a parked call.
    pub(super) end: Option<ParkedCallEnd>,
}

/// A modern client of a legacy upstream.
#[derive(Debug, Clone)]
pub(super) struct ModernClient {
    /// The exposed name or URI that the client called.
    pub exposed: Box<str>,
    /// Its declared capabilities.
    pub capabilities: Capabilities,
    /// The level of log messages that it asked for.
    pub level: Option<LogLevel>,
    /// The raw arguments of the call.
    pub arguments: Option<Bytes>,
}

/// The task that the upstream makes of a call.
#[derive(Debug, Clone)]
pub(super) enum CallTask {
    None,
    /// One that is handed to the client.
    HandedOff {
        /// The exposed name of the tool.
        tool: Box<str>,
    },
    /// One that the edge waits for in place of a client that does not know of it.
    Awaited(AwaitedTask),
}

/// A task that the edge waits for.
#[derive(Debug, Clone)]
pub(super) struct AwaitedTask {
    /// Its raw id.
    pub id: Box<str>,
    /// Its progress token.
    pub progress: u64,
    /// True once its cancellation was sent.
    cancelled: Rc<Cell<bool>>,
}

impl AwaitedTask {
    pub(super) fn new(id: &str, progress: u64) -> Self {
        Self { id: id.into(), progress, cancelled: Rc::default() }
    }

    /// Returns a finished task, whose result is fetched and which needs no cancellation.
    pub(super) fn finished(id: &str) -> Self {
        Self { id: json::quote(id).into(), progress: 0, cancelled: Rc::new(Cell::new(true)) }
    }
}

impl Translator for ModernOnLegacy {
    const CLIENT_ERA: Era = Era::Modern;
    const HANG_UP: HangUp = HangUp::Cancels;

    fn call(&self) -> &CallContext {
        &self.call
    }

    fn own_id(&self) -> OwnId<'_> {
        OwnId::Number(self.in_session.number)
    }

    fn translate_shown(&mut self, message: &Bytes) -> Result<Translated, Fault> {
        let unrelated;
        let message = match self.task {
            CallTask::Awaited(_) => {
                unrelated = tasks::set_related(message.clone(), None).map_err(malformed)?;
                &unrelated
            }
            CallTask::None | CallTask::HandedOff { .. } => message,
        };
        let envelope = Envelope::parse(message).map_err(malformed)?;
        match envelope.kind() {
            Kind::Response => {
                let (message, outcome) = self.response(message, &envelope)?;
                if let Some(end) = self.end.take() {
                    end.note();
                }
                Ok(Translated::Response(message, outcome))
            }
            Kind::Notification => self.notification(message, &envelope),
            Kind::Request => Ok(match envelope.id.and_then(responses::refuse_long_id) {
                Some(refusal) => Translated::Reply(refusal),
                None => match self.call.expose_sampling(message, &envelope)? {
                    None => self.request(&envelope),
                    Some(exposed) => self.request(&Envelope::parse(&exposed).map_err(malformed)?),
                },
            }),
        }
    }

    fn in_session(&self) -> Option<&CallInSession> {
        Some(&self.in_session)
    }

    fn cancel(&self, context: &Rc<Context>, why: &str) {
        match &self.task {
            CallTask::Awaited(awaited) => self.cancel_task(context, awaited),
            CallTask::None | CallTask::HandedOff { .. } => {
                session_messages::cancel(context, &self.call.upstream, &self.in_session, why);
            }
        }
    }

    fn response_timeout(&self) -> Duration {
        match self.task {
            CallTask::Awaited(_) => MAX_LIFETIME,
            CallTask::None | CallTask::HandedOff { .. } => self.call.upstream.request_timeout,
        }
    }

    fn park_at(&self) -> Option<Instant> {
        self.pending.ask_at()
    }

    fn park(stream: &mut UpstreamStream<Self>) -> Result<Option<Bytes>, Fault> {
        park::park(stream).map(Some)
    }
}

impl ModernOnLegacy {
    pub(super) fn new(
        call: &McpCall<'_>,
        in_session: CallInSession,
        client: ModernClient,
        task: CallTask,
    ) -> Self {
        let pending = PendingRequests::within(call.context.environment.limits.max_event_bytes);
        Self { call: CallContext::of(call), in_session, client, task, pending, end: None }
    }

    /// The raw id of the task that the edge waits for.
    pub(super) fn awaited_task(&self) -> Option<&str> {
        match &self.task {
            CallTask::Awaited(awaited) => Some(&awaited.id),
            CallTask::None | CallTask::HandedOff { .. } => None,
        }
    }

    /// The progress token of the call at the upstream.
    pub(super) fn progress_token(&self) -> u64 {
        match &self.task {
            CallTask::Awaited(awaited) => awaited.progress,
            CallTask::None | CallTask::HandedOff { .. } => self.in_session.number,
        }
    }

    /// Sends a message in the session of the call, in the background.
    pub(super) fn send(&self, context: &Rc<Context>, body: Bytes) {
        session_messages::send(context, &self.call.upstream, &self.in_session.session, body);
    }

    /// Sends a message in the session of the call, and waits until the upstream has accepted it.
    pub(super) async fn send_confirmed(&self, context: &Rc<Context>, body: Bytes) -> Result<(), Fault> {
        session_messages::send_confirmed(context, &self.call.upstream, &self.in_session.session, body).await
    }

    /// Cancels the task that the edge waits for, once.
    fn cancel_task(&self, context: &Rc<Context>, awaited: &AwaitedTask) {
        if !awaited.cancelled.replace(true) {
            let number = context.mcp.next_request_id();
            self.send(context, task::request(Method::TasksCancel, number, &awaited.id));
        }
    }

    fn response(&self, message: &Bytes, envelope: &Envelope<'_>) -> Result<(Bytes, Outcome), Fault> {
        let is_own = |id: &str| self.call.is_own(self.own_id(), id);
        let (id, result) = match responses::own_response(envelope, is_own)? {
            OwnResponse::Result { id, result } => (id, result),
            OwnResponse::Error(error) => return self.error(error),
        };
        if let Some(created) = self.created_task(result)? {
            return Ok((created, Outcome::Ok));
        }
        let CallContext { method, .. } = &self.call;
        let edits = Splice::new().replace(span(message, id), self.call.id.clone());
        let edits = self.call.expose_uris(edits, message, result)?;
        let edits = results::to_modern(edits, message, result, *method).map_err(malformed)?;
        Ok((apply(edits, message), outcome_of_result(result)))
    }

    /// Translates the result that created a task for the client.
    fn created_task(&self, result: &str) -> Result<Option<Bytes>, Fault> {
        let CallTask::HandedOff { tool } = &self.task else { return Ok(None) };
        let created = call_tasks::created_in_session(&self.call, &self.in_session.session, tool, result)?;
        let (Some((_, sealed)), [Some(task)]) =
            (created, json::members(result, ["task"]).map_err(malformed)?)
        else {
            return Ok(None);
        };
        let task =
            tasks::to_modern(task, &sealed, &[("resultType", Some(r#""task""#))]).map_err(malformed)?;
        Ok(Some(responses::render(&self.call.id, "result", &task)))
    }

    fn error(&self, error: &str) -> Result<(Bytes, Outcome), Fault> {
        let code = responses::code_of(error)?;
        if code == codes::URL_ELICITATION_REQUIRED {
            return url_elicitation_required(self, error);
        }
        let translated = results::error_to_modern(error, code, &self.client.exposed).map_err(malformed)?;
        let error = translated.as_deref().unwrap_or(error);
        Ok((responses::render(&self.call.id, "error", error), outcome_of_code(code)))
    }

    fn notification(&self, message: &Bytes, envelope: &Envelope<'_>) -> Result<Translated, Fault> {
        let translated = match envelope.method.as_deref().and_then(Method::parse) {
            // The modern era does not have them.
            Some(
                Method::ElicitationComplete
                | Method::TasksStatus
                | Method::ResourcesUpdated
                | Method::Cancelled,
            ) => None,
            Some(Method::Message) => {
                let [level] = json::members(envelope.params.unwrap_or("{}"), ["level"]).map_err(malformed)?;
                let level = self.client.level.zip(level.and_then(LogLevel::parse));
                level.filter(|(wanted, level)| level >= wanted).map(|_| message.clone())
            }
            Some(Method::Progress) => {
                let ours = self.in_session.progress_token.as_ref();
                notifications::progress(message, envelope, self.progress_token(), ours).map_err(malformed)?
            }
            _ => self.call.notification(message, envelope)?,
        };
        Ok(translated.map_or(Translated::Ignore, Translated::Forward))
    }

    /// Translates a request: some become input that the client is asked for.
    fn request(&mut self, envelope: &Envelope<'_>) -> Translated {
        let method = envelope.method.as_deref().unwrap_or_default();
        let id = envelope.id.unwrap_or("null");
        if method == Method::Ping.as_str() {
            return Translated::Reply(responses::pong(id));
        }
        let request = ServerRequest::of(method, envelope.params, id).filter(|request| {
            input_requests::may_ask(self.call.method) && request.is_covered_by(self.client.capabilities)
        });
        match request {
            Some(request) => {
                if self.pending.add(request) {
                    return Translated::Ignore;
                }
                Translated::Reply(too_many(id))
            }
            None => Translated::Reply(input_requests::refusal(method, id)),
        }
    }
}

/// Refuses a request for which there is no room among those that wait for the client.
fn too_many(id: &str) -> Bytes {
    let text = "too many requests to the client wait in this call";
    codes::render(Some(id), codes::INTERNAL_ERROR, text, None)
}
