//! Translates the messages of a modern upstream for a legacy client.

use bytes::Bytes;
use mcp::error as codes;
use mcp::json;
use mcp::message::{Envelope, Kind, span};
use mcp::revision::Revision;
use mcp::splice::Splice;

use crate::error::Fault;
use crate::policy::Permit;
use crate::session::SessionId;
use crate::upstream::mcp::input_requests::InputRequired;
use crate::upstream::mcp::malformed;
use crate::upstream::mcp::outcome::{outcome_of_code, outcome_of_result};
use crate::upstream::mcp::rewrite::responses::OwnResponse;
use crate::upstream::mcp::rewrite::{apply, content, responses, results};
use crate::upstream::mcp::translator::{CallContext, OwnId};
use crate::usage::Outcome;

/// The translator of a legacy client's call at a modern upstream. Its stream is read by the input loop.
pub(super) struct LegacyOnModern {
    pub call: CallContext,
    /// The client's session, in which alone it answers.
    pub session_id: SessionId,
    pub permit: Permit,
    /// The exposed name or URI that the client called.
    pub exposed: Box<str>,
    /// The raw progress token of the client's request.
    pub progress_token: Option<Bytes>,
    /// The client's revision, where it does not know every block of content.
    pub outdated: Option<Revision>,
    /// The id of the request at the upstream.
    pub number: u64,
    /// Whether calls share a connection, on which that is the progress token as well.
    pub on_channel: bool,
}

/// A message of a modern upstream, translated.
#[derive(Debug)]
pub(super) enum TranslatedModern {
    /// The response to the call.
    Response(Bytes, Outcome),
    /// Input that the upstream requires before it responds.
    InputRequired(InputRequired),
    /// A message for the client.
    Forward(Bytes),
    /// A message that does not concern the client.
    Ignore,
}

impl LegacyOnModern {
    /// Translates a message, without what rules mask of the result.
    pub(super) fn translate(&self, message: &Bytes) -> Result<TranslatedModern, Fault> {
        if self.call.active.masks().is_none() {
            return self.translate_shown(message);
        }
        match self.call.shown(message)? {
            Some(shown) => self.translate_shown(&shown),
            None => Ok(TranslatedModern::Ignore),
        }
    }

    fn translate_shown(&self, message: &Bytes) -> Result<TranslatedModern, Fault> {
        let envelope = Envelope::parse(message).map_err(malformed)?;
        match envelope.kind() {
            Kind::Response => self.response(message, &envelope),
            Kind::Notification => {
                let token = self.progress_token.as_ref();
                let translated = self.call.modern_notification(
                    message,
                    &envelope,
                    token,
                    self.on_channel.then_some(self.number),
                )?;
                Ok(translated.map_or(TranslatedModern::Ignore, TranslatedModern::Forward))
            }
            Kind::Request => Ok(TranslatedModern::Ignore),
        }
    }

    fn response(&self, message: &Bytes, envelope: &Envelope<'_>) -> Result<TranslatedModern, Fault> {
        let is_own = |id: &str| self.call.is_own(OwnId::Number(self.number), id);
        let (id, result) = match responses::own_response(envelope, is_own)? {
            OwnResponse::Result { id, result } => (id, result),
            OwnResponse::Error(error) => return self.error(error),
        };
        let mentioned = self.call.expose_uris(Splice::new(), message, result)?;
        if !mentioned.is_empty() {
            // What follows may replace the whole result.
            let exposed = mentioned.apply(message);
            let (id, result) = responses::own_result(&Envelope::parse(&exposed).map_err(malformed)?, is_own)?;
            return self.result(&exposed, id, result);
        }
        self.result(message, id, result)
    }

    fn result(&self, message: &Bytes, id: &str, result: &str) -> Result<TranslatedModern, Fault> {
        if let Some(input) = InputRequired::of(message, result).map_err(malformed)? {
            return Ok(TranslatedModern::InputRequired(input));
        }
        let CallContext { method, .. } = &self.call;
        let edits = Splice::new().replace(span(message, id), self.call.id.clone());
        let edits = results::to_legacy(edits, message, result, *method).map_err(malformed)?;
        let translated = apply(edits, message);
        let translated = match self.outdated {
            Some(revision) => content::downgrade(translated, *method, revision),
            None => translated,
        };
        Ok(TranslatedModern::Response(translated, outcome_of_result(result)))
    }

    fn error(&self, error: &str) -> Result<TranslatedModern, Fault> {
        let code = responses::code_of(error)?;
        if code == codes::MISSING_CAPABILITY {
            let [text] = json::members(error, ["message"]).map_err(malformed)?;
            let text = text.and_then(|raw| json::string(raw).ok()).unwrap_or_default();
            return Err(Fault::InputUnavailable(self.call.upstream.excerpt(&text)));
        }
        responses::refuse_own_fault(code)?;
        let translated = results::error_to_legacy(error, code, self.call.method, &self.exposed);
        let translated = translated.map_err(malformed)?;
        let error = translated.as_deref().unwrap_or(error);
        Ok(TranslatedModern::Response(
            responses::render(&self.call.id, "error", error),
            outcome_of_code(code),
        ))
    }
}
