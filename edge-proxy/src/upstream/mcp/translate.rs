//! Translates an upstream's messages for a client of the other era.
//!
//! It must not know HTTP. Messages that both eras share are left to `upstream::translation`.

use bytes::Bytes;
use mcp::error as codes;
use mcp::json::{self, JsonError};
use mcp::message::{Envelope, Kind, span};
use mcp::method::Method;
use mcp::revision::Era;
use mcp::splice::Splice;

use super::input_requests::{self, InputRequired, ServerRequest};
use super::modern_on_legacy::{flatten_task, url_elicitation_required};
use super::rewrite::results;
use crate::error::Fault;
use crate::session::LogLevel;
use crate::upstream::mcp::call_tasks::CallTasks;
use crate::upstream::mcp::translation::{
    Translated, Translation, UpstreamEra, apply, is_tool_error, outcome_of,
};
use crate::usage::Outcome;

/// Translates a message for a client of the other era.
pub(in crate::upstream) fn translate(
    translation: &mut Translation,
    message: &Bytes,
    envelope: &Envelope<'_>,
) -> Result<Translated, Fault> {
    match (&translation.upstream_era, envelope.kind()) {
        (_, Kind::Response) => response(translation, message, envelope),
        (UpstreamEra::Legacy { .. }, Kind::Notification) => {
            to_modern_notification(translation, message, envelope)
        }
        (UpstreamEra::Legacy { .. }, Kind::Request) => Ok(request(translation, envelope)),
        (UpstreamEra::Modern { .. }, Kind::Notification) => Ok(Translated::Forward(message.clone())),
        (UpstreamEra::Modern { .. }, Kind::Request) => Ok(Translated::Ignore),
    }
}

fn malformed(error: JsonError) -> Fault {
    Fault::Malformed(error.to_string())
}

fn response(
    translation: &Translation,
    message: &Bytes,
    envelope: &Envelope<'_>,
) -> Result<Translated, Fault> {
    let id = envelope.id.filter(|id| translation.is_own_id(id));
    if let Some(error) = envelope.error {
        if id.is_none() && envelope.id.is_some() {
            return Err(Fault::Malformed("an error with the id of no request".to_owned()));
        }
        return failure(translation, error);
    }
    let (Some(id), Some(result)) = (id, envelope.result) else {
        return Err(Fault::Malformed("a response with the id of no request".to_owned()));
    };
    if translation.client_era() == Era::Legacy
        && let Some(input) = InputRequired::of(message, result).map_err(malformed)?
    {
        return Ok(Translated::InputRequired(input));
    }
    if let Some(created) = created_task(translation, result)? {
        return Ok(Translated::Response(created, Outcome::Ok));
    }
    let edits = Splice::new().replace(span(message, id), translation.id.clone());
    let outcome = if is_tool_error(result) { Outcome::ToolError } else { Outcome::Ok };
    let edits = translation.edit_uris(edits, message, result)?;
    let edits = match &translation.upstream_era {
        UpstreamEra::Legacy { .. } => results::to_modern(edits, message, result, translation.method),
        UpstreamEra::Modern { .. } => results::to_legacy(edits, message, result, translation.method),
    };
    Ok(Translated::Response(apply(edits.map_err(malformed)?, message), outcome))
}

/// Translates the result that created a task for a modern client.
fn created_task(translation: &Translation, result: &str) -> Result<Option<Bytes>, Fault> {
    let CallTasks::Created { tool } = &translation.tasks else { return Ok(None) };
    let (Some((_, sealed)), [Some(task)]) =
        (translation.created(tool, result)?, json::members(result, ["task"]).map_err(malformed)?)
    else {
        return Ok(None);
    };
    let told = flatten_task(task, &sealed, &[("resultType", Some(r#""task""#))]).map_err(malformed)?;
    let parts: [&[u8]; 5] =
        [br#"{"jsonrpc":"2.0","id":"#, &translation.id, br#","result":"#, told.as_bytes(), b"}"];
    Ok(Some(parts.concat().into()))
}

/// Translates an error into the client's era.
fn failure(translation: &Translation, error: &str) -> Result<Translated, Fault> {
    let [code] = json::members(error, ["code"]).map_err(malformed)?;
    let code = code.and_then(|code| code.parse().ok()).unwrap_or(codes::INTERNAL_ERROR);
    let method = translation.method;
    if code == codes::URL_ELICITATION_REQUIRED && translation.modern_client().is_some() {
        let (message, outcome) = url_elicitation_required(translation, error)?;
        return Ok(Translated::Response(message, outcome));
    }
    if code == codes::MISSING_CAPABILITY && translation.client_era() == Era::Legacy {
        let [text] = json::members(error, ["message"]).map_err(malformed)?;
        let text = text.and_then(|raw| json::string(raw).ok()).unwrap_or_default();
        return Err(Fault::InputUnavailable(text.into_owned()));
    }
    let told = match &translation.upstream_era {
        UpstreamEra::Legacy { .. } => results::error_to_modern(error, code, translation.exposed()),
        UpstreamEra::Modern { .. } if matches!(code, codes::HEADER_MISMATCH | codes::UNSUPPORTED_VERSION) => {
            return Err(Fault::Malformed(format!("it rejects the headers or the revision ({code})")));
        }
        UpstreamEra::Modern { .. } => results::error_to_legacy(error, code, method, translation.exposed()),
    };
    let told = told.map_err(malformed)?;
    let error = told.as_deref().unwrap_or(error);
    let parts: [&[u8]; 5] =
        [br#"{"jsonrpc":"2.0","id":"#, &translation.id, br#","error":"#, error.as_bytes(), b"}"];
    Ok(Translated::Response(parts.concat().into(), outcome_of(code)))
}

fn to_modern_notification(
    translation: &Translation,
    message: &Bytes,
    envelope: &Envelope<'_>,
) -> Result<Translated, Fault> {
    match envelope.method.as_deref().and_then(Method::parse) {
        // The modern era does not have them.
        Some(
            Method::ElicitationComplete | Method::TasksStatus | Method::ResourcesUpdated | Method::Cancelled,
        ) => Ok(Translated::Ignore),
        Some(Method::Message) => {
            let wanted = translation.modern_client().and_then(|modern_client| modern_client.level);
            let [level] = json::members(envelope.params.unwrap_or("{}"), ["level"]).map_err(malformed)?;
            let said = level.and_then(LogLevel::parse);
            let received = wanted.zip(said).is_some_and(|(wanted, said)| said >= wanted);
            Ok(if received { Translated::Forward(message.clone()) } else { Translated::Ignore })
        }
        _ => translation.notification(message, envelope),
    }
}

/// Translates a request of a legacy upstream: some become input that the modern client is asked for.
fn request(translation: &Translation, envelope: &Envelope<'_>) -> Translated {
    let method = envelope.method.as_deref().unwrap_or_default();
    let id = envelope.id.unwrap_or("null");
    if method == Method::Ping.as_str() {
        return Translated::Ping(id.to_owned());
    }
    let declared =
        translation.modern_client().map(|modern_client| modern_client.capabilities).unwrap_or_default();
    match ServerRequest::of(method, envelope.params, id)
        .filter(|question| input_requests::may_ask(translation.method) && question.is_covered_by(declared))
    {
        Some(question) => Translated::ServerRequest(question),
        None => Translated::Reply(input_requests::refusal(method, id)),
    }
}
