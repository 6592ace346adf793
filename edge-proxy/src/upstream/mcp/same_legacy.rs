//! Calls of legacy clients at legacy upstreams, in sessions that clients share.
//!
//! It must not know the modern era.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use mcp::json;
use mcp::message::span;
use mcp::method::Method;
use mcp::revision::Revision;
use mcp::splice::Splice;

use super::McpCall;
use super::call_tasks::CallTasks;
use super::detached::Detached;
use super::in_flight::InFlightGuard;
use super::response::read_response;
use super::rewrite::content;
use super::session::SessionKey;
use super::session_messages;
use super::task::MAX_LIFETIME;
use super::translation::{Translation, UpstreamEra};
use crate::error::Fault;
use crate::session::Conversation;
use crate::upstream::call::{CallError, CallResponse, record_outcome};

/// Makes a call in a shared session.
pub(super) async fn call(
    call: McpCall<'_>,
    conversation: &Rc<Conversation>,
) -> Result<CallResponse, CallError> {
    let context = Rc::clone(call.context);
    let upstream = Arc::clone(&call.permit.entry().upstream);
    let key = SessionKey::of_conversation(&context, &upstream, call.upstream, conversation);
    let sessions = context.session_pool(&upstream, call.upstream, key)?;
    let number = context.next_request_id();
    let body = outgoing(&call, number);
    let guard =
        InFlightGuard::new(&context, number, conversation.session_id, call.id(), Rc::clone(&sessions));
    let progress_token = call.message.params.progress_token.map(|raw| call.message.slice(raw));
    let retry = call.retry();
    let (trust, server) = (Arc::clone(call.trust), Arc::clone(call.server));
    let principal = Arc::clone(call.principal);
    let (id, method) = (call.id(), call.method);
    // Older clients fail on an event without data, and do not resume; a connection cannot be resumed, and a task is
    // asked for by its id.
    let tasks = CallTasks::of_legacy(&call);
    let call = call.call;
    let resumable = call.headers.is_some()
        && conversation.revision >= Revision::V2025_11_25
        && matches!(tasks, CallTasks::None);
    let task = call.task.map(|(task, _)| task);
    let (uri_prefix, outdated) =
        (call.permit.entry().uri_prefix.clone(), content::outdated(conversation.revision));
    let (permit, mut account) = (call.permit, call.account);
    let made = Detached::new(async move {
        let answered = async {
            let patience =
                if method == Method::TasksResult { MAX_LIFETIME } else { upstream.request_timeout };
            let (answered, session) = match &task {
                None => sessions.call(number, &body, retry).await?,
                Some(task) => task.ask(&sessions, number, &body, retry, patience).await?,
            };
            let requests = Vec::new();
            let upstream_era = UpstreamEra::Legacy {
                session,
                number,
                progress_token,
                resumable,
                requests,
                modern_client: None,
            };
            let translation = Translation {
                trust,
                server,
                principal,
                permit,
                upstream,
                method,
                id,
                uri_prefix,
                outdated,
                tasks,
                upstream_era,
            };
            read_response(&context, answered, translation, &mut account, Some(guard)).await
        };
        let answered = answered.await;
        if matches!(answered, Err(Fault::Timeout)) {
            session_messages::cancel_request(&sessions, number, session_messages::TIMED_OUT);
        }
        record_outcome(answered, &mut account)
    });
    Ok(made.await?)
}

/// Returns the client's message with the upstream's id, progress token and name.
fn outgoing(call: &McpCall<'_>, number: u64) -> Bytes {
    let message = call.message;
    let mut edits = Splice::new();
    let number = Bytes::from(number.to_string());
    if let Some(id) = message.envelope.id {
        edits = edits.replace(span(message.body, id), number.clone());
    }
    if let Some(token) = message.params.progress_token {
        edits = edits.replace(span(message.body, token), number);
    }
    if let Some((task, raw)) = &call.task {
        edits = edits.replace(span(message.body, raw), json::quote(&task.id));
    } else if call.named.exposed != call.permit.original() {
        edits = edits.replace(span(message.body, call.named.raw), json::quote(call.permit.original()));
    }
    edits.apply(message.body)
}
