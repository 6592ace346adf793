//! Calls of legacy clients at legacy upstreams, in sessions that clients share.
//!
//! It must not know the modern era.

mod resume;
mod resumption_token;
mod translator;

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use mcp::json;
use mcp::message::span;
use mcp::method::Method;
use mcp::revision::Revision;
use mcp::splice::Splice;

pub use self::resume::Resumption;
pub(in crate::upstream) use self::resume::resume;
pub(in crate::upstream) use self::translator::SameLegacy;
use crate::error::Fault;
use crate::session::Conversation;
use crate::upstream::call::{Call, CallError, CallResponse, record_outcome};
use crate::upstream::mcp::McpCall;
use crate::upstream::mcp::awaited_response::{self, FirstOfCall};
use crate::upstream::mcp::call_tasks::CallTasks;
use crate::upstream::mcp::detached::Detached;
use crate::upstream::mcp::in_flight::InFlightGuard;
use crate::upstream::mcp::message_source::MessageSource;
use crate::upstream::mcp::repeat::SentCall;
use crate::upstream::mcp::response::read_stream;
use crate::upstream::mcp::rewrite::content;
use crate::upstream::mcp::session::SessionKey;
use crate::upstream::mcp::session_messages;
use crate::upstream::mcp::task::MAX_LIFETIME;
use crate::upstream::mcp::translator::{CallContext, CallInSession};
use crate::usage::Outcome;

/// Makes a call in a shared session.
pub(in crate::upstream::mcp) async fn call(
    call: McpCall<'_>,
    conversation: &Rc<Conversation>,
) -> Result<CallResponse, CallError> {
    let context = Rc::clone(call.context);
    let upstream = &call.permit.entry().upstream;
    let key = SessionKey::of_conversation(&context, upstream, call.upstream, conversation);
    let sessions = context.session_pool(upstream, call.upstream, key, call.principal)?;
    let number = context.mcp.next_request_id();
    let body = outgoing(&call, number);
    let progress_token = call.message.params.progress_token.map(|raw| call.message.slice(raw));
    let numbered = (number, progress_token.is_some());
    let mut guard = InFlightGuard::new(
        &context,
        numbered,
        conversation.session_id,
        call.id(),
        Rc::clone(&sessions),
        call.active.clone(),
    );
    let retry = call.retry();
    let patience = match call.method {
        Method::TasksResult => MAX_LIFETIME,
        _ => upstream.request_timeout,
    };
    let tasks = CallTasks::of_legacy(&call);
    // Older clients fail on an event without data, and do not resume; a connection cannot be resumed, and a task is
    // asked for by its id.
    let resumable = call.headers.is_some()
        && conversation.revision >= Revision::V2025_11_25
        && matches!(tasks, CallTasks::None);
    let (translated, outdated) = (CallContext::of(&call), content::outdated(conversation.revision));
    let Call { task, permit, active, mut account, .. } = call.call;
    let task = task.map(|(task, _)| task);
    let (session_id, capabilities) = (conversation.session_id, conversation.capabilities);
    let shared = active.clone();
    let cancelled = Rc::clone(&sessions);
    let cancel = move |why: &'static str| session_messages::cancel_request(&cancelled, number, why);
    let made = Detached::new(Rc::clone(&context), active, cancel, async move {
        let answered = async {
            let server_messages = guard.server_messages.as_mut();
            let first = match &task {
                None => {
                    awaited_response::call(&context, &sessions, (number, &body), retry, server_messages)
                        .await?
                }
                Some(task) => {
                    let asked = Box::pin(task.ask(&sessions, number, &body, retry, patience));
                    let (response, session) = asked.await?;
                    FirstOfCall::Response(response, session)
                }
            };
            let session = first.session();
            let in_session = CallInSession { session, number, progress_token };
            let sent = SentCall {
                context: &context,
                pool: &sessions,
                in_session: in_session.clone(),
                body: &body,
                retry,
            };
            let requests = VecDeque::new();
            let translator = SameLegacy {
                call: translated,
                session_id,
                capabilities,
                in_session,
                permit,
                outdated,
                tasks,
                resumable,
                requests,
            };
            let rejoin = |translator: &mut SameLegacy, session| {
                translator.in_session.session = session;
                let id = translator.call.id.clone();
                let permit = translator.call.active.clone();
                Some(InFlightGuard::new(&context, numbered, session_id, id, Rc::clone(&sessions), permit))
            };
            match first {
                FirstOfCall::Response(response, _) => {
                    sent.read(response, translator, &mut account, Some(guard), rejoin).await
                }
                FirstOfCall::ServerMessage(awaited, _) => {
                    let source = MessageSource::Awaited(awaited);
                    Box::pin(read_stream(&context, source, translator, &mut account, Some(guard))).await
                }
            }
        };
        let answered = answered.await;
        if matches!(answered, Err(Fault::Timeout)) {
            session_messages::cancel_request(&sessions, number, session_messages::TIMED_OUT);
        }
        let answered = record_outcome(answered, &mut account);
        if let Some(account) = account.as_mut().filter(|_| shared.is_given_up()) {
            account.outcome = Outcome::Cancelled;
        }
        answered
    });
    Ok(made.await?.into())
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
