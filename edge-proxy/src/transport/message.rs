//! One message of a client, borrowed from its body, with the members that route it.
//!
//! It must not know what any method does.

use bytes::Bytes;
use mcp::border::{Peer, Unreadable, ids, mend};
use mcp::json::{self, JsonError};
use mcp::message::{Envelope, EnvelopeError, Kind, span};
use mcp::meta;
use mcp::method::Method;
use mcp::splice::Splice;

use crate::error::{ErrorContext, Failure};

/// Longest raw id of a request, and longest raw progress token, in bytes: they are kept for the call, and sealed into the ids
/// of its events.
const MAX_ID: usize = 1_024;

/// One message of a client.
#[derive(Debug)]
pub struct Message<'a> {
    /// The whole body.
    pub body: &'a Bytes,
    /// The JSON-RPC envelope.
    pub envelope: Envelope<'a>,
    /// The method, if it is one of the protocol's.
    pub method: Option<Method>,
    /// The members that route it.
    pub params: Params<'a>,
}

/// Members of `params` that are read elsewhere.
const OTHERS: [&str; 6] = ["taskId", "task", "inputResponses", "level", "argument", "context"];

/// Members of `params`, raw.
#[derive(Debug, Default)]
pub struct Params<'a> {
    /// `name`.
    pub name: Option<&'a str>,
    /// `uri`.
    pub uri: Option<&'a str>,
    /// `arguments`.
    pub arguments: Option<&'a str>,
    /// `cursor`.
    pub cursor: Option<&'a str>,
    /// `ref`.
    pub reference: Option<&'a str>,
    /// `requestState`.
    pub request_state: Option<&'a str>,
    /// `_meta.progressToken`.
    pub progress_token: Option<&'a str>,
    /// `_meta["io.modelcontextprotocol/protocolVersion"]`.
    pub version: Option<&'a str>,
    /// `_meta["io.modelcontextprotocol/clientCapabilities"]`.
    pub capabilities: Option<&'a str>,
    /// `_meta["io.modelcontextprotocol/logLevel"]`.
    pub log_level: Option<&'a str>,
    /// `_meta`.
    pub meta: Option<&'a str>,
}

impl<'a> Message<'a> {
    /// Reads the parameters of an envelope. The id is known to `error_context` before anything is refused, unless it is
    /// what is refused.
    pub fn new(
        body: &'a Bytes,
        envelope: Envelope<'a>,
        error_context: &mut ErrorContext,
    ) -> Result<Self, Failure> {
        let method = envelope.method.as_deref().and_then(Method::parse);
        if let Some(id) = envelope.id.filter(|id| envelope.method.is_some() && id.len() > MAX_ID) {
            return Err(Failure::Invalid(format!(
                "the id has {} bytes, of which {MAX_ID} are allowed",
                id.len()
            )));
        }
        error_context.id = envelope.id.map(|id| body.slice(span(body, id)));
        let params = envelope.params.map(Params::read).transpose()?.unwrap_or_default();
        Ok(Self { body, envelope, method, params })
    }

    /// The kind of message: request, notification or response.
    pub fn kind(&self) -> Kind {
        self.envelope.kind()
    }

    /// Slices the body to `raw`, which is borrowed from it, without copying.
    pub fn slice(&self, raw: &str) -> Bytes {
        self.body.slice(span(self.body, raw))
    }
}

impl<'a> Params<'a> {
    fn read(raw: &'a str) -> Result<Self, Failure> {
        let [name, uri, arguments, cursor, reference, request_state, meta] = json::exact_members(
            raw,
            ["name", "uri", "arguments", "cursor", "ref", "requestState", meta::META],
            &OTHERS,
        )
        .map_err(malformed)?;
        let [progress_token, version, capabilities, log_level] = match meta {
            Some(meta) if meta.starts_with('{') => json::members(
                meta,
                [meta::PROGRESS_TOKEN, meta::PROTOCOL_VERSION, meta::CLIENT_CAPABILITIES, meta::LOG_LEVEL],
            )
            .map_err(malformed)?,
            _ => [None; 4],
        };
        if let Some(token) = progress_token.filter(|token| token.len() > MAX_ID) {
            let (found, allowed) = (token.len(), MAX_ID);
            return Err(Failure::params(format!(
                "params._meta.progressToken has {found} bytes, of which {allowed} are allowed"
            )));
        }
        // Clients write every member that they know.
        let given = |raw: Option<&'a str>| raw.filter(|raw| *raw != "null");
        Ok(Self {
            name,
            uri,
            arguments,
            cursor: given(cursor),
            reference,
            request_state: given(request_state),
            progress_token,
            version,
            capabilities,
            log_level: given(log_level),
            meta,
        })
    }
}

/// Reads what a client plainly meant with a message that was refused with `error`: that message, which parses. Where there is
/// none, `error_context` has the id of the request that it was to be: whoever waits for it learns why.
#[cold]
pub fn mended(
    body: &Bytes,
    error: EnvelopeError,
    error_context: &mut ErrorContext,
) -> Result<Bytes, Failure> {
    match mend(body, error, Peer::Client) {
        Ok(mended) => Ok(mended.message),
        Err(Unreadable { error, .. }) => {
            let id = ids::id_of_unreadable(body).filter(|raw| raw.len() <= MAX_ID);
            error_context.id = id.map(|raw| body.slice(span(body, raw)));
            Err(unreadable(error))
        }
    }
}

/// Whether a raw value is a list without elements, which PHP writes for an empty object.
pub fn is_empty_list(raw: &str) -> bool {
    raw.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|rest| rest.trim().is_empty())
}

/// The message with an empty object as `arguments`, if those are an empty list.
#[cold]
pub fn with_object_arguments(body: Bytes) -> Bytes {
    let params = Envelope::parse(&body).ok().and_then(|envelope| envelope.params);
    let arguments = params.and_then(|params| json::members(params, ["arguments"]).ok().and_then(|[raw]| raw));
    match arguments.filter(|raw| is_empty_list(raw)).map(|raw| span(&body, raw)) {
        Some(list) => Splice::new().replace(list, Bytes::from_static(b"{}")).apply(&body),
        None => body,
    }
}

/// The failure of an envelope that cannot be read.
pub fn unreadable(error: EnvelopeError) -> Failure {
    match error {
        EnvelopeError::Utf8 { .. } | EnvelopeError::Json(_) => Failure::Parse(error.to_string()),
        other => Failure::Invalid(other.to_string()),
    }
}

fn malformed(error: JsonError) -> Failure {
    Failure::Invalid(format!("params: {error}"))
}
