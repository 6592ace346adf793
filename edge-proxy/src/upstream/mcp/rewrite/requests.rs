//! Translates requests between the eras: members of one era are added or removed, every other byte stays.
//!
//! It must not know how requests are sent.

use bytes::Bytes;
use mcp::json::{self, JsonError};
use mcp::message::{Envelope, span};
use mcp::meta;
use mcp::method::Target;
use mcp::revision::Revision;
use mcp::splice::Splice;

use crate::route::TargetKind;
use crate::session::Conversation;
use crate::upstream::Call;

/// Members of the params with which a modern client resumes a call.
const STATE: &str = "requestState";
const RESPONSES: &str = "inputResponses";
/// The member that makes a call a task, which the modern era does not have.
const TASK: &str = "task";

/// Translates a modern client's request for a legacy upstream, with `number` as id and progress token, and as a task
/// where `task` is set.
pub(in crate::upstream::mcp) fn to_legacy(
    call: &Call<'_>,
    number: u64,
    task: Option<&str>,
) -> Result<Bytes, JsonError> {
    let number = number.to_string();
    let token = call.message.params.progress_token.map(|_| number.as_str());
    let keys = [
        (meta::PROTOCOL_VERSION, None),
        (meta::CLIENT_CAPABILITIES, None),
        (meta::CLIENT_INFO, None),
        (meta::LOG_LEVEL, None),
    ];
    let meta = call.message.params.meta.unwrap_or("{}");
    let mut meta = json::set_members(meta, &keys)?;
    if token.is_some() {
        meta = json::set_members(&meta, &[(meta::PROGRESS_TOKEN, token)])?;
    }
    let remaining = has_members(&meta)?.then_some(meta.as_str());
    rewrite(call, &number, &[(meta::META, remaining), (STATE, None), (RESPONSES, None), (TASK, task)])
}

/// Translates a legacy client's request for a modern upstream, with the id `number`.
pub(in crate::upstream::mcp) fn to_modern(
    call: &Call<'_>,
    conversation: &Conversation,
    level: Option<&str>,
    number: u64,
) -> Result<Bytes, JsonError> {
    let client = client_info(&conversation.client);
    let capabilities =
        conversation.capabilities.within(conversation.revision).to_upstream(conversation.revision);
    let version = json::quote(Revision::LATEST.as_str());
    let keys = [
        (meta::PROTOCOL_VERSION, Some(version.as_str())),
        (meta::CLIENT_CAPABILITIES, Some(&capabilities)),
        (meta::CLIENT_INFO, Some(&client)),
        (meta::LOG_LEVEL, level),
    ];
    let meta = call.message.params.meta.filter(|meta| meta.starts_with('{')).unwrap_or("{}");
    let meta = json::set_members(meta, &keys)?;
    let changes = [(meta::META, Some(meta.as_str())), (STATE, None), (RESPONSES, None), (TASK, None)];
    rewrite(call, &number.to_string(), &changes)
}

/// Adds the input that the upstream required to a request that `to_modern` built.
pub(in crate::upstream::mcp) fn with_input(
    request: &[u8],
    number: u64,
    responses: Option<&str>,
    state: Option<&str>,
) -> Result<Bytes, JsonError> {
    let number = number.to_string();
    let Ok(Envelope { id: Some(id), params: Some(params), .. }) = Envelope::parse(request) else {
        return Ok(Bytes::copy_from_slice(request));
    };
    let updated = json::set_members(params, &[(RESPONSES, responses), (STATE, state)])?;
    let edits = Splice::new().replace(span(request, id), number).replace(span(request, params), updated);
    Ok(edits.apply(request))
}

/// Returns a request of the modern era for a connection that many calls share, with `number` as id and progress token.
pub(in crate::upstream::mcp) fn on_channel(request: &Bytes, number: u64) -> Result<Bytes, JsonError> {
    let number = number.to_string();
    let Ok(Envelope { id: Some(id), params, .. }) = Envelope::parse(request) else {
        return Ok(request.clone());
    };
    let mut edits = Splice::new().replace(span(request, id), number.clone());
    let [meta] = json::members(params.unwrap_or("{}"), [meta::META])?;
    if let Some(raw) = meta.filter(|raw| raw.starts_with('{'))
        && let [Some(token)] = json::members(raw, [meta::PROGRESS_TOKEN])?
    {
        edits = edits.replace(span(request, token), number);
    }
    Ok(edits.apply(request))
}

/// Returns the client's message with this id, the upstream's own name, and `changes` to its params.
fn rewrite(call: &Call<'_>, id: &str, changes: &[(&str, Option<&str>)]) -> Result<Bytes, JsonError> {
    let message = call.message;
    let original = json::quote(call.permit.original());
    let mut changes = changes.to_vec();
    let reference;
    match call.method.target() {
        _ if call.named.exposed == call.permit.original() => {}
        Target::Reference => {
            let member = if call.named.kind == TargetKind::Prompt { "name" } else { "uri" };
            let raw = message.params.reference.unwrap_or("{}");
            reference = json::set_members(raw, &[(member, Some(&original))])?;
            changes.push(("ref", Some(&reference)));
        }
        target => changes.extend(target.member().map(|member| (member, Some(original.as_str())))),
    }
    let mut edits = Splice::new();
    if let Some(raw) = message.envelope.id {
        edits = edits.replace(span(message.body, raw), id);
    }
    if let Some(params) = message.envelope.params {
        edits = edits.replace(span(message.body, params), json::set_members(params, &changes)?);
    }
    Ok(edits.apply(message.body))
}

fn has_members(object: &str) -> Result<bool, JsonError> {
    let mut any = false;
    json::each_member(object, |_, _| {
        any = true;
        Ok(())
    })?;
    Ok(any)
}

/// Returns `clientInfo` from the conversation's short form of it.
fn client_info(client: &str) -> String {
    let (name, version) = client.rsplit_once('/').unwrap_or((client, ""));
    format!(r#"{{"name":{},"version":{}}}"#, json::quote(name), json::quote(version))
}
