//! Calls of modern clients at modern upstreams: one POST is one exchange, and its headers mirror the body.

mod request_state;
mod translator;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method as Verb};
use mcp::header::{self, METHOD, NAME, PARAM_PREFIX, PROTOCOL_VERSION};
use mcp::json;
use mcp::message::span;
use mcp::meta;
use mcp::method::Target;
use mcp::revision::Revision;
use mcp::splice::Splice;

use self::request_state::StateBinding;
pub(in crate::upstream) use self::translator::SameModern;
use crate::error::Failure;
use crate::session::{HandleOwner, Session};
use crate::upstream::call::{CallError, CallResponse, record_outcome};
use crate::upstream::mcp::McpCall;
use crate::upstream::mcp::call_tasks::CallTasks;
use crate::upstream::mcp::channel::CallMessages;
use crate::upstream::mcp::message_source::RawResponse;
use crate::upstream::mcp::response::read_response;
use crate::upstream::mcp::rewrite::requests;
use crate::upstream::mcp::translator::CallContext;
use crate::upstream::mcp::unreadable;
use crate::usage::Account;

/// Makes a call: over HTTP on a connection of its own, and dropping it closes that, which cancels the call.
pub(in crate::upstream::mcp) async fn call(mut call: McpCall<'_>) -> Result<CallResponse, CallError> {
    let mut account = call.account.take();
    let answered = exchange(&call, &mut account).await;
    record_outcome(answered, &mut account)
}

async fn exchange(call: &McpCall<'_>, account: &mut Option<Account>) -> Result<CallResponse, CallError> {
    let upstream = &call.permit.entry().upstream;
    let http_pool = call.context.http_pool(upstream)?;
    let body = outgoing(call).map_err(CallError::Client)?;
    let (response, number) = if call.upstream.transport.is_channel() {
        let (messages, number) = send_on_channel(call, &body).await?;
        (RawResponse::Channel(messages), Some(number))
    } else {
        let headers = headers(call, http_pool.headers.clone()).map_err(CallError::Client)?;
        let (retry, timeout) = (call.retry(), upstream.request_timeout);
        (RawResponse::Http(http_pool.send(&Verb::POST, headers, body, retry, timeout).await?), None)
    };
    let translator = SameModern {
        call: CallContext::of(call),
        exposed: call.named.exposed.as_ref().into(),
        arguments: call.message.params.arguments.map(|raw| call.message.slice(raw)),
        progress_token: call.message.params.progress_token.map(|raw| call.message.slice(raw)),
        number,
        tasks: CallTasks::of_modern(call),
    };
    Ok(read_response(call.context, response, translator, account, None).await?.into())
}

/// Makes a call on a connection that calls share. Dropping its messages cancels it.
async fn send_on_channel(call: &McpCall<'_>, body: &Bytes) -> Result<(CallMessages, u64), CallError> {
    let upstream = &call.permit.entry().upstream;
    let number = call.context.mcp.next_request_id();
    let body = requests::on_channel(body, number).map_err(unreadable)?;
    let channels = call.context.modern_channels(upstream, call.upstream)?;
    let wants_logs = call.message.params.log_level.is_some();
    Ok((channels.call_modern(number, &body, call.retry(), wants_logs).await?, number))
}

pub(in crate::upstream::mcp) fn headers(
    call: &McpCall<'_>,
    mut headers: HeaderMap,
) -> Result<HeaderMap, Failure> {
    let revision = match call.session {
        Session::Modern(revision) => *revision,
        _ => Revision::LATEST,
    };
    headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(revision.as_str()));
    headers.insert(METHOD, HeaderValue::from_static(call.method.as_str()));
    if call.method.mirrored_target() != Target::None {
        let name = call.task.as_ref().map_or(call.permit.original(), |(task, _)| &task.id);
        headers.insert(NAME, header::encode_value(name));
    }
    let is_modern = matches!(call.session, Session::Modern(_));
    for (name, value) in call.headers.into_iter().flatten() {
        let name_text = name.as_str();
        // A legacy client has none that was checked: what it writes there is no argument that rules read.
        if (is_modern && name_text.starts_with(PARAM_PREFIX))
            || matches!(name_text, meta::TRACEPARENT | meta::TRACESTATE | meta::BAGGAGE)
        {
            headers.append(name, value.clone());
        }
    }
    let mirrored = &call.permit.entry().tool.mirrored;
    if !mirrored.is_empty() && call.task.is_none() {
        let arguments = call.message.params.arguments.unwrap_or("{}");
        for (name, value) in
            header::mirror(arguments, mirrored).map_err(|error| Failure::Header(error.to_string()))?
        {
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

/// Returns the client's message with the upstream's own name and request state. Mostly nothing has to be changed.
fn outgoing(call: &McpCall<'_>) -> Result<Bytes, Failure> {
    let message = call.message;
    let mut edits = Splice::new();
    if let Some((task, raw)) = &call.task {
        edits = edits.replace(span(message.body, raw), json::quote(&task.id));
    } else if call.named.exposed != call.permit.original() {
        edits = edits.replace(span(message.body, call.named.raw), json::quote(call.permit.original()));
    }
    if let Some(raw) = message.params.request_state {
        let owner = HandleOwner { server: &call.server.uid, principal: &call.principal.uid };
        let text = json::string(raw).unwrap_or_default();
        let (method, exposed) = (call.method, &*call.named.exposed);
        let leads_to = [&*call.permit.entry().upstream.id, call.permit.original()];
        let binding = StateBinding { owner, method, exposed, leads_to, arguments: message.params.arguments };
        let state = request_state::open(call.trust, binding, &text);
        let state = state.ok_or_else(|| {
            Failure::params("params.requestState was not issued for this call, or has expired")
        })?;
        edits = edits.replace(span(message.body, raw), state);
    }
    Ok(if edits.is_empty() { message.body.clone() } else { edits.apply(message.body) })
}
