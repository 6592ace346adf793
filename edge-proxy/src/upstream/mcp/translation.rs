//! Translates an upstream's messages for the client: only the parts that must change are spliced.
//!
//! It must not know HTTP: JSON responses and events of a stream take the same way.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use mcp::error as codes;
use mcp::header::{PROTOCOL_VERSION, SESSION_ID};
use mcp::json;
use mcp::message::{Envelope, Kind, span};
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use mcp::splice::Splice;
use memchr::memmem;

use super::call_tasks::CallTasks;
use super::input_requests::{InputRequired, ServerRequest};
use super::request_state;
use super::resumption_token::ResumptionToken;
use super::rewrite::content;
use super::server_requests;
use super::session::UpstreamSession;
use super::translate;
use crate::error::Fault;
use crate::identity::Principal;
use crate::policy::Permit;
use crate::session::capabilities::Capabilities;
use crate::session::{HandleOwner, LogLevel};
use crate::snapshot::{Server, Trust, Upstream};
use crate::usage::Outcome;

/// Open requests of an upstream in one call.
const MAX_OPEN_REQUESTS: usize = 256;

/// A call as the client and as the upstream see it.
#[derive(Clone)]
pub(super) struct Translation {
    /// The keys that handles are sealed with.
    pub trust: Arc<Trust>,
    pub server: Arc<Server>,
    pub principal: Arc<Principal>,
    pub permit: Permit,
    pub upstream: Arc<Upstream>,
    /// The target of the call.
    pub method: Method,
    /// The raw id of the client's request.
    pub id: Bytes,
    /// The prefix of URIs that the client sees.
    pub uri_prefix: Box<str>,
    /// The client's revision, where it does not know every block of content.
    pub outdated: Option<Revision>,
    /// The tasks that its messages may concern.
    pub tasks: CallTasks,
    /// The era of the upstream, and the parts of a call that only one era has.
    pub upstream_era: UpstreamEra,
}

/// The era of the upstream, and the parts of a call that only one era has.
#[derive(Clone)]
pub(super) enum UpstreamEra {
    /// A legacy upstream, called in a shared session.
    Legacy {
        session: Rc<UpstreamSession>,
        /// The id and progress token of the call in that session.
        number: u64,
        /// The raw progress token of the client's request.
        progress_token: Option<Bytes>,
        /// Whether the client may resume a stream that broke off.
        resumable: bool,
        /// Server requests that were sent to the client, by the upstream's raw id and the client's.
        requests: Vec<(Box<str>, String)>,
        /// The client, where it is of the modern era.
        modern_client: Option<Box<ModernClient>>,
    },
    /// A modern upstream, called on a connection of its own.
    Modern {
        /// The exposed name, which the request state is bound to.
        exposed: Box<str>,
        /// The client, where it is of the legacy era.
        legacy_client: Option<LegacyClient>,
    },
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

/// A legacy client of a modern upstream.
#[derive(Debug, Clone, Copy)]
pub(super) struct LegacyClient {
    /// The id of the request at the upstream.
    pub number: u64,
}

/// A message of an upstream, translated.
#[derive(Debug)]
pub(super) enum Translated {
    /// The response to the call.
    Response(Bytes, Outcome),
    /// A message for the client.
    Forward(Bytes),
    /// A ping, by its raw id.
    Ping(String),
    /// A request that the edge answers in place of the client, with this message.
    Reply(Bytes),
    /// A request to a modern client, which is sent in the response to its call.
    ServerRequest(ServerRequest),
    /// Input that a modern upstream requires of a legacy client.
    InputRequired(InputRequired),
    /// A message that does not concern the client.
    Ignore,
}

impl Translation {
    /// Translates a message, with content that the client's revision knows.
    pub(super) fn translate(&mut self, message: Bytes) -> Result<Translated, Fault> {
        let Some(revision) = self.outdated else { return self.translate_message(message) };
        Ok(match self.translate_message(message)? {
            Translated::Response(message, outcome) => {
                Translated::Response(content::downgrade(message, self.method, revision), outcome)
            }
            translated => translated,
        })
    }

    fn translate_message(&mut self, message: Bytes) -> Result<Translated, Fault> {
        let message =
            self.translate_related_task(message).map_err(|error| Fault::Malformed(error.to_string()))?;
        let envelope = Envelope::parse(&message).map_err(|error| Fault::Malformed(error.to_string()))?;
        if self.is_cross_era() {
            return translate::translate(self, &message, &envelope);
        }
        match envelope.kind() {
            Kind::Response => self.response(&message, &envelope),
            Kind::Notification => self.notification(&message, &envelope),
            Kind::Request => self.request(&message, &envelope),
        }
    }

    /// The era of the client.
    pub(super) fn client_era(&self) -> Era {
        match &self.upstream_era {
            UpstreamEra::Legacy { modern_client: None, .. }
            | UpstreamEra::Modern { legacy_client: Some(_), .. } => Era::Legacy,
            _ => Era::Modern,
        }
    }

    /// Whether the client is of another era than the upstream.
    fn is_cross_era(&self) -> bool {
        match &self.upstream_era {
            UpstreamEra::Legacy { modern_client, .. } => modern_client.is_some(),
            UpstreamEra::Modern { legacy_client, .. } => legacy_client.is_some(),
        }
    }

    /// The modern client of a legacy upstream.
    pub(super) fn modern_client(&self) -> Option<&ModernClient> {
        match &self.upstream_era {
            UpstreamEra::Legacy { modern_client, .. } => modern_client.as_deref(),
            UpstreamEra::Modern { .. } => None,
        }
    }

    /// The exposed name or URI, where the call crosses the eras.
    pub(super) fn exposed(&self) -> &str {
        match &self.upstream_era {
            UpstreamEra::Legacy { modern_client, .. } => {
                modern_client.as_ref().map_or("", |modern_client| &modern_client.exposed)
            }
            UpstreamEra::Modern { exposed, .. } => exposed,
        }
    }

    /// The owner of handles that are sealed in messages.
    pub(super) fn owner(&self) -> HandleOwner<'_> {
        HandleOwner { server: &self.server.uid, principal: &self.principal.uid }
    }

    /// Seals the event id with which the client may resume the stream, at any edge.
    pub(super) fn resumption_token(&self, event: &[u8]) -> Option<Bytes> {
        let UpstreamEra::Legacy { session, number, progress_token, resumable: true, .. } = &self.upstream_era
        else {
            return None;
        };
        let headers = session.headers()?;
        let resumption = ResumptionToken {
            upstream: &self.upstream.id,
            session: headers.get(SESSION_ID).map_or(b"", HeaderValue::as_bytes),
            version: headers.get(PROTOCOL_VERSION).map_or(b"", HeaderValue::as_bytes),
            number: *number,
            id: &self.id,
            progress_token: progress_token.as_deref().unwrap_or_default(),
            method: self.method,
            uri_prefix: &self.uri_prefix,
            kind: self.permit.kind(),
            exposed: self.permit.exposed(),
            event,
        };
        resumption.seal(&self.trust, self.owner()).ok().map(Bytes::from)
    }

    fn response(&self, message: &Bytes, envelope: &Envelope<'_>) -> Result<Translated, Fault> {
        if let Some(error) = envelope.error {
            return self.error(message, envelope, error);
        }
        let (Some(id), Some(result)) = (envelope.id, envelope.result) else {
            return Err(Fault::Malformed("a response without a result".to_owned()));
        };
        if !self.is_own_id(id) {
            return Err(Fault::Malformed("a response with the id of no request".to_owned()));
        }
        let mut edits = Splice::new();
        if matches!(self.upstream_era, UpstreamEra::Legacy { .. }) {
            edits = edits.replace(span(message, id), self.id.clone());
        }
        edits = self.edit_result(edits, message, result)?;
        let outcome = if is_tool_error(result) { Outcome::ToolError } else { Outcome::Ok };
        Ok(Translated::Response(apply(edits, message), outcome))
    }

    /// Forwards an error as the upstream wrote it, with the client's id.
    fn error(&self, message: &Bytes, envelope: &Envelope<'_>, error: &str) -> Result<Translated, Fault> {
        let [code] = json::members(error, ["code"]).map_err(|error| Fault::Malformed(error.to_string()))?;
        let code = code.and_then(|code| code.parse().ok()).unwrap_or(codes::INTERNAL_ERROR);
        if matches!(code, codes::HEADER_MISMATCH | codes::UNSUPPORTED_VERSION) {
            return Err(Fault::Malformed(format!("it rejects the headers or the revision ({code})")));
        }
        let outcome = outcome_of(code);
        match envelope.id {
            Some(id) if self.is_own_id(id) => Ok(Translated::Response(
                apply(Splice::new().replace(span(message, id), self.id.clone()), message),
                outcome,
            )),
            Some(_) => Err(Fault::Malformed("an error with the id of no request".to_owned())),
            None => {
                let parts: [&[u8]; 5] =
                    [br#"{"jsonrpc":"2.0","id":"#, &self.id, br#","error":"#, error.as_bytes(), b"}"];
                Ok(Translated::Response(parts.concat().into(), outcome))
            }
        }
    }

    pub(super) fn is_own_id(&self, id: &str) -> bool {
        match &self.upstream_era {
            UpstreamEra::Legacy { number, .. } => id.parse() == Ok(*number),
            UpstreamEra::Modern { legacy_client: Some(legacy_client), .. } => {
                id.parse() == Ok(legacy_client.number)
            }
            UpstreamEra::Modern { .. } => id.as_bytes() == self.id,
        }
    }

    fn edit_result<'a>(
        &self,
        mut edits: Splice<'a>,
        message: &Bytes,
        result: &'a str,
    ) -> Result<Splice<'a>, Fault> {
        let malformed = |error: json::JsonError| Fault::Malformed(error.to_string());
        edits = self.edit_uris(edits, message, result)?;
        edits = self.edit_task(edits, message, result)?;
        let UpstreamEra::Modern { exposed, .. } = &self.upstream_era else { return Ok(edits) };
        if self.method == Method::ResourcesRead {
            // Tokens may read different resources: no shared cache may keep it.
            let [scope] = json::members(result, ["cacheScope"]).map_err(malformed)?;
            edits = match scope {
                Some(scope) => edits.replace(span(message, scope), r#""private""#),
                None => edits,
            };
        }
        if memmem::find(result.as_bytes(), b"requestState").is_some() {
            let [state] = json::members(result, ["requestState"]).map_err(malformed)?;
            if let Some(state) = state {
                let sealed = request_state::seal(&self.trust, self.owner(), self.method, exposed, state)
                    .map_err(|error| Fault::Malformed(error.to_string()))?;
                edits = edits.replace(span(message, state), json::quote(&sealed));
            }
        }
        Ok(edits)
    }

    /// Prefixes the URIs of a read resource.
    pub(super) fn edit_uris<'a>(
        &self,
        edits: Splice<'a>,
        message: &Bytes,
        result: &str,
    ) -> Result<Splice<'a>, Fault> {
        if self.method != Method::ResourcesRead || self.uri_prefix.is_empty() {
            return Ok(edits);
        }
        prefix_uris(edits, message, result, &self.uri_prefix)
            .map_err(|error| Fault::Malformed(error.to_string()))
    }

    pub(super) fn notification(&self, message: &Bytes, envelope: &Envelope<'_>) -> Result<Translated, Fault> {
        let method = envelope.method.as_deref().and_then(Method::parse);
        let UpstreamEra::Legacy { number, progress_token, requests, .. } = &self.upstream_era else {
            return Ok(Translated::Forward(message.clone()));
        };
        let (key, replacement) = match method {
            // The edge itself notifies clients of changed lists.
            Some(Method::ToolsListChanged | Method::PromptsListChanged | Method::ResourcesListChanged) => {
                return Ok(Translated::Ignore);
            }
            Some(Method::Progress) => ("progressToken", None),
            Some(Method::Cancelled) => ("requestId", Some(requests)),
            Some(Method::TasksStatus) => return self.task_status(message, envelope),
            _ => return Ok(Translated::Forward(message.clone())),
        };
        let [raw] = json::members(envelope.params.unwrap_or("{}"), [key])
            .map_err(|error| Fault::Malformed(error.to_string()))?;
        let Some(raw) = raw else { return Ok(Translated::Ignore) };
        let known: Option<Bytes> = match replacement {
            None => progress_token.clone().filter(|_| raw.parse() == Ok(self.progress_token(*number))),
            Some(requests) => {
                requests.iter().find(|(theirs, _)| **theirs == *raw).map(|(_, ours)| json::quote(ours).into())
            }
        };
        // Progress that was not asked for, and requests of another call of the session, are not this client's.
        let Some(known) = known else { return Ok(Translated::Ignore) };
        Ok(Translated::Forward(Splice::new().replace(span(message, raw), known).apply(message)))
    }

    /// Gives a server request an id with which any edge finds the upstream's session.
    fn request(&mut self, message: &Bytes, envelope: &Envelope<'_>) -> Result<Translated, Fault> {
        let (UpstreamEra::Legacy { session, requests, .. }, Some(id)) = (&mut self.upstream_era, envelope.id)
        else {
            return Ok(Translated::Ignore);
        };
        if envelope.method.as_deref() == Some(Method::Ping.as_str()) {
            return Ok(Translated::Ping(id.to_owned()));
        }
        if requests.len() >= MAX_OPEN_REQUESTS {
            return Err(Fault::Malformed("too many requests to the client in one call".to_owned()));
        }
        let owner = HandleOwner { server: &self.server.uid, principal: &self.principal.uid };
        let reply_to = session.reply_to();
        let reply_to = reply_to
            .ok_or_else(|| Fault::Session("too many requests to clients wait at this edge".to_owned()))?;
        let sealed = server_requests::seal(&self.trust, owner, &self.permit, &reply_to, id)
            .map_err(|error| Fault::Malformed(error.to_string()))?;
        let edited = Splice::new().replace(span(message, id), json::quote(&sealed)).apply(message);
        requests.push((id.into(), sealed));
        Ok(Translated::Forward(edited))
    }
}

pub(super) fn apply(edits: Splice<'_>, message: &Bytes) -> Bytes {
    if edits.is_empty() { message.clone() } else { edits.apply(message) }
}

/// Prefixes the URI of each content of a read resource.
fn prefix_uris<'a>(
    edits: Splice<'a>,
    message: &Bytes,
    result: &str,
    prefix: &str,
) -> Result<Splice<'a>, json::JsonError> {
    let [contents] = json::members(result, ["contents"])?;
    let Some(contents) = contents.filter(|contents| contents.starts_with('[')) else { return Ok(edits) };
    let mut edits = Some(edits);
    json::each_element::<json::JsonError>(contents, |content| {
        if let Some(uri) = content
            .starts_with('{')
            .then(|| json::members(content, ["uri"]))
            .transpose()?
            .and_then(|[uri]| uri)
            && uri.starts_with('"')
        {
            let quoted = json::quote(prefix);
            let start = span(message, uri).start + 1;
            let inner = quoted[1..quoted.len() - 1].to_owned();
            edits = edits.take().map(|edits| edits.replace(start..start, inner));
        }
        Ok(())
    })?;
    Ok(edits.unwrap_or_default())
}

/// Whether a result says `isError`. The search comes first: few do, and many are long.
pub(super) fn is_tool_error(result: &str) -> bool {
    memmem::find(result.as_bytes(), br#""isError""#).is_some()
        && json::members(result, ["isError"]).is_ok_and(|[flag]| flag == Some("true"))
}

/// Returns the outcome that an error code counts as.
pub(super) fn outcome_of(code: i64) -> Outcome {
    match code {
        codes::INVALID_REQUEST
        | codes::METHOD_NOT_FOUND
        | codes::INVALID_PARAMS
        | codes::RESOURCE_NOT_FOUND
        | codes::MISSING_CAPABILITY
        | codes::URL_ELICITATION_REQUIRED => Outcome::ClientError,
        _ => Outcome::UpstreamError,
    }
}
