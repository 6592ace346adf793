//! Translates the messages of a modern upstream for a modern client. Mostly nothing has to be changed.

use bytes::Bytes;
use mcp::json;
use mcp::message::{Envelope, Kind, span};
use mcp::method::Method;
use mcp::revision::Era;
use mcp::splice::Splice;
use memchr::memmem;

use super::request_state::{self, StateBinding};
use crate::error::Fault;
use crate::upstream::mcp::call_tasks::{self, CallTasks};
use crate::upstream::mcp::malformed;
use crate::upstream::mcp::outcome::outcome_of_result;
use crate::upstream::mcp::rewrite::{apply, responses, tasks};
use crate::upstream::mcp::translator::{CallContext, HangUp, OwnId, Translated, Translator};
use crate::usage::Outcome;

/// The translator of a modern client's call at a modern upstream.
#[derive(Clone)]
pub(in crate::upstream) struct SameModern {
    pub(super) call: CallContext,
    /// The exposed name and the raw arguments, which the request state is bound to.
    pub(super) exposed: Box<str>,
    pub(super) arguments: Option<Bytes>,
    /// The raw progress token of the client's request.
    pub(super) progress_token: Option<Bytes>,
    /// The id and progress token at the upstream, where calls share a connection; else they are the client's own.
    pub(super) number: Option<u64>,
    pub(super) tasks: CallTasks,
}

impl Translator for SameModern {
    const CLIENT_ERA: Era = Era::Modern;
    const HANG_UP: HangUp = HangUp::Closes;

    fn call(&self) -> &CallContext {
        &self.call
    }

    fn own_id(&self) -> OwnId<'_> {
        match self.number {
            None => OwnId::Raw(&self.call.id),
            Some(number) => OwnId::Number(number),
        }
    }

    fn translate_shown(&mut self, message: &Bytes) -> Result<Translated, Fault> {
        let envelope = Envelope::parse(message).map_err(malformed)?;
        match envelope.kind() {
            Kind::Response => {
                let (message, outcome) = self.response(message, &envelope)?;
                Ok(Translated::Response(message, outcome))
            }
            Kind::Notification => {
                let token = self.progress_token.as_ref();
                let translated = self.call.modern_notification(message, &envelope, token, self.number)?;
                Ok(translated.map_or(Translated::Ignore, Translated::Forward))
            }
            Kind::Request => Ok(Translated::Ignore),
        }
    }
}

impl SameModern {
    fn response(&self, message: &Bytes, envelope: &Envelope<'_>) -> Result<(Bytes, Outcome), Fault> {
        let own = &self.call.id;
        if let Some(error) = envelope.error {
            let is_own = envelope.id.map(|id| self.call.is_own(self.own_id(), id));
            return responses::forward_error(message, envelope, error, is_own, own);
        }
        let (id, result) = responses::own_result(envelope, |id| self.call.is_own(self.own_id(), id))?;
        let edits = if id.as_bytes() == own {
            Splice::new()
        } else {
            Splice::new().replace(span(message, id), own.clone())
        };
        let edits = self.call.expose_uris(edits, message, result)?;
        let task = match &self.tasks {
            CallTasks::None => None,
            CallTasks::Created { tool } => call_tasks::created(&self.call, tool, result)?,
            CallTasks::Known { ours, .. } => tasks::known(result, ours).map_err(malformed)?,
        };
        let edits = tasks::replace_id(edits, message, task);
        let edits = self.edit_cache_scope(edits, message, result)?;
        let edits = self.edit_request_state(edits, message, result)?;
        Ok((apply(edits, message), outcome_of_result(result)))
    }

    /// Keeps a resource out of shared caches: principals may read different ones.
    fn edit_cache_scope<'a>(
        &self,
        edits: Splice<'a>,
        message: &Bytes,
        result: &str,
    ) -> Result<Splice<'a>, Fault> {
        if self.call.method != Method::ResourcesRead {
            return Ok(edits);
        }
        let [scope] = json::members(result, ["cacheScope"]).map_err(malformed)?;
        Ok(match scope {
            Some(scope) => edits.replace(span(message, scope), r#""private""#),
            None => edits,
        })
    }

    /// Seals the state with which the client resumes a call that requires input.
    fn edit_request_state<'a>(
        &self,
        edits: Splice<'a>,
        message: &Bytes,
        result: &str,
    ) -> Result<Splice<'a>, Fault> {
        if self.call.active.is_approved() {
            return self.add_request_state(edits, message, result);
        }
        if memmem::find(result.as_bytes(), b"requestState").is_none() {
            return Ok(edits);
        }
        let [state] = json::members(result, ["requestState"]).map_err(malformed)?;
        let Some(state) = state else { return Ok(edits) };
        Ok(edits.replace(span(message, state), json::quote(&self.sealed(state)?)))
    }

    /// The same for a call that was approved, also where the upstream has no state: without one the call would begin anew.
    #[cold]
    fn add_request_state<'a>(
        &self,
        edits: Splice<'a>,
        message: &Bytes,
        result: &str,
    ) -> Result<Splice<'a>, Fault> {
        let [kind, state] = json::members(result, ["resultType", "requestState"]).map_err(malformed)?;
        if kind != Some(r#""input_required""#) && state.is_none() {
            return Ok(edits);
        }
        let sealed = state.map_or_else(|| Ok(String::new()), |state| self.sealed(state))?;
        let ours = json::quote(&self.call.request_state(&self.exposed, sealed).map_err(malformed)?);
        Ok(match state {
            Some(state) => edits.replace(span(message, state), ours),
            None => {
                let first = span(message, result).start + 1;
                edits.replace(first..first, format!(r#""requestState":{ours},"#))
            }
        })
    }

    fn sealed(&self, state: &str) -> Result<String, Fault> {
        let (owner, method) = (self.call.owner(), self.call.method);
        let arguments = self.arguments.as_deref().map(std::str::from_utf8).transpose().map_err(malformed)?;
        let leads_to = [&*self.call.upstream.id, self.call.active.original()];
        let binding = StateBinding { owner, method, exposed: &self.exposed, leads_to, arguments };
        request_state::seal(&self.call.trust, binding, state).map_err(malformed)
    }
}
