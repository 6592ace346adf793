//! Translates the messages of a legacy upstream for a legacy client.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use mcp::json;
use mcp::message::{Envelope, Kind, span};
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use mcp::splice::Splice;

use super::resumption_token::{MAX_ADDRESS, ResumptionToken};
use crate::error::Fault;
use crate::policy::Permit;
use crate::session::SessionId;
use crate::session::capabilities::Capabilities;
use crate::upstream::Context;
use crate::upstream::mcp::call_tasks::{self, CallTasks};
use crate::upstream::mcp::outcome::outcome_of_result;
use crate::upstream::mcp::rewrite::{apply, content, notifications, responses, tasks};
use crate::upstream::mcp::task::MAX_LIFETIME;
use crate::upstream::mcp::translator::{CallContext, CallInSession, HangUp, OwnId, Translated, Translator};
use crate::upstream::mcp::{input_requests, malformed, server_requests, session_messages};
use crate::usage::Outcome;

/// The latest requests of an upstream in one call whose cancellation reaches the client. Nothing tells when one is answered,
/// since the answer may arrive at any edge, so those before them count as answered.
const MAX_KNOWN_REQUESTS: usize = 256;

/// The translator of a legacy client's call at a legacy upstream.
#[derive(Clone)]
pub(in crate::upstream) struct SameLegacy {
    pub(super) call: CallContext,
    /// The client's session, in which alone it answers and resumes.
    pub(super) session_id: SessionId,
    /// What the client declared that it can be asked.
    pub(super) capabilities: Capabilities,
    pub(super) in_session: CallInSession,
    pub(super) permit: Permit,
    /// The client's revision, where it does not know every block of content.
    pub(super) outdated: Option<Revision>,
    pub(super) tasks: CallTasks,
    /// True if the client may resume a stream that broke off.
    pub(super) resumable: bool,
    /// The latest server requests that were sent to the client, by the upstream's raw id and the client's.
    pub(super) requests: VecDeque<(Box<str>, String)>,
}

impl Translator for SameLegacy {
    const CLIENT_ERA: Era = Era::Legacy;
    const HANG_UP: HangUp = HangUp::Continues;

    fn call(&self) -> &CallContext {
        &self.call
    }

    fn own_id(&self) -> OwnId<'_> {
        OwnId::Number(self.in_session.number)
    }

    fn translate_shown(&mut self, message: &Bytes) -> Result<Translated, Fault> {
        let related;
        let message = match &self.tasks {
            CallTasks::Known { ours, .. } => {
                related = tasks::set_related(message.clone(), Some(ours)).map_err(malformed)?;
                &related
            }
            CallTasks::None | CallTasks::Created { .. } => message,
        };
        let envelope = Envelope::parse(message).map_err(malformed)?;
        match envelope.kind() {
            Kind::Response => self.response(message, &envelope),
            Kind::Notification => self.notification(message, &envelope),
            Kind::Request => match envelope.id.and_then(responses::refuse_long_id) {
                Some(refusal) => Ok(Translated::Reply(refusal)),
                None => match self.call.expose_sampling(message, &envelope)? {
                    None => self.request(message, &envelope),
                    Some(exposed) => self.request(&exposed, &Envelope::parse(&exposed).map_err(malformed)?),
                },
            },
        }
    }

    fn in_session(&self) -> Option<&CallInSession> {
        Some(&self.in_session)
    }

    fn cancel(&self, context: &Rc<Context>, why: &str) {
        session_messages::cancel(context, &self.call.upstream, &self.in_session, why);
    }

    fn response_timeout(&self) -> Duration {
        match self.tasks {
            CallTasks::Known { .. } if self.call.method == Method::TasksResult => MAX_LIFETIME,
            _ => self.call.upstream.request_timeout,
        }
    }

    fn resumption_token(&self, event: &[u8]) -> Option<Bytes> {
        if !self.is_resumable() {
            return None;
        }
        let CallContext { trust, upstream, method, id, uri_prefix, .. } = &self.call;
        let session = &self.in_session.session;
        session.headers()?;
        let address = session.address();
        let resumption = ResumptionToken {
            upstream: &upstream.id,
            session: &address,
            version: session.version(),
            number: self.in_session.number,
            id,
            progress_token: self.in_session.progress_token.as_deref().unwrap_or_default(),
            method: *method,
            uri_prefix,
            kind: self.permit.kind(),
            exposed: self.permit.exposed(),
            original: self.permit.original(),
            judged_by: self.permit.judged_by(),
            event,
        };
        resumption.seal(trust, self.call.owner(), &self.session_id).ok().map(Bytes::from)
    }

    fn is_resumable(&self) -> bool {
        self.resumable && self.in_session.session.address().len() <= MAX_ADDRESS
    }
}

impl SameLegacy {
    fn response(&self, message: &Bytes, envelope: &Envelope<'_>) -> Result<Translated, Fault> {
        let (message, outcome) = match envelope.error {
            Some(error) => {
                let own = envelope.id.map(|id| self.call.is_own(self.own_id(), id));
                responses::forward_error(message, envelope, error, own, &self.call.id)?
            }
            None => self.result(message, envelope)?,
        };
        Ok(Translated::Response(
            match self.outdated {
                Some(revision) => content::downgrade(message, self.call.method, revision),
                None => message,
            },
            outcome,
        ))
    }

    fn result(&self, message: &Bytes, envelope: &Envelope<'_>) -> Result<(Bytes, Outcome), Fault> {
        let (id, result) = responses::own_result(envelope, |id| self.call.is_own(self.own_id(), id))?;
        let edits = Splice::new().replace(span(message, id), self.call.id.clone());
        let edits = self.call.expose_uris(edits, message, result)?;
        let task = match &self.tasks {
            CallTasks::None => None,
            CallTasks::Created { tool } => {
                call_tasks::created_in_session(&self.call, &self.in_session.session, tool, result)?
            }
            CallTasks::Known { ours, .. } => tasks::known(result, ours).map_err(malformed)?,
        };
        let edits = tasks::replace_id(edits, message, task);
        Ok((apply(edits, message), outcome_of_result(result)))
    }

    fn notification(&self, message: &Bytes, envelope: &Envelope<'_>) -> Result<Translated, Fault> {
        let translated = match envelope.method.as_deref().and_then(Method::parse) {
            Some(Method::Progress) => {
                let CallInSession { number, progress_token, .. } = &self.in_session;
                notifications::progress(message, envelope, *number, progress_token.as_ref())
                    .map_err(malformed)?
            }
            Some(Method::Cancelled) => {
                notifications::cancelled(message, envelope, &self.requests).map_err(malformed)?
            }
            Some(Method::TasksStatus) => match &self.tasks {
                CallTasks::Known { ours, theirs } => {
                    tasks::status(message, envelope, theirs, ours).map_err(malformed)?
                }
                CallTasks::None | CallTasks::Created { .. } => None,
            },
            _ => self.call.notification(message, envelope)?,
        };
        Ok(translated.map_or(Translated::Ignore, Translated::Forward))
    }

    /// Gives a server request an id with which any edge finds the upstream's session.
    fn request(&mut self, message: &Bytes, envelope: &Envelope<'_>) -> Result<Translated, Fault> {
        let Some(id) = envelope.id else { return Ok(Translated::Ignore) };
        let method = envelope.method.as_deref().unwrap_or_default();
        if method == Method::Ping.as_str() {
            return Ok(Translated::Reply(responses::pong(id)));
        }
        let params = envelope.params.unwrap_or("{}");
        if !input_requests::may_reach(method, params, self.capabilities) {
            return Ok(Translated::Reply(input_requests::refusal(method, id)));
        }
        let reply_to = self.in_session.session.reply_to();
        let reply_to = reply_to
            .ok_or_else(|| Fault::Session("too many requests to clients wait at this edge".to_owned()))?;
        let (trust, owner) = (&self.call.trust, self.call.owner());
        let sealed = server_requests::seal(trust, owner, &self.session_id, &self.permit, &reply_to, id)
            .map_err(malformed)?;
        let edited = Splice::new().replace(span(message, id), json::quote(&sealed)).apply(message);
        if self.requests.len() >= MAX_KNOWN_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back((id.into(), sealed));
        Ok(Translated::Forward(edited))
    }
}
