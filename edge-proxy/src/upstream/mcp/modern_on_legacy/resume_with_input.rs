//! Resumes a parked call with a modern client's input: at the upstream that waits for it, or at the waiter that holds
//! the call open. It must not know how calls are parked.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use http::HeaderValue;
use mcp::json::{self, JsonError};
use tokio::sync::mpsc;

use super::ended_call::ParkedCallEnd;
use super::held_open::ResumeInput;
use super::park::{self, input_required_response};
use super::parked_call::{CallBinding, ParkedCall, PendingRequest, ResumeBy};
use super::task_polling::TaskPoller;
use super::translator::{AwaitedTask, CallTask, ModernOnLegacy};
use crate::error::{Failure, Fault};
use crate::fleet::{Delivery, Undelivered};
use crate::session::HandleOwner;
use crate::upstream::call::CallError;
use crate::upstream::call::CallResponse;
use crate::upstream::mcp::McpCall;
use crate::upstream::mcp::arguments::arguments_digest;
use crate::upstream::mcp::relayed_stream::{RelaySource, RelayedStream};
use crate::upstream::mcp::session::UpstreamSession;
use crate::upstream::mcp::translator::{CallContext, CallInSession};
use crate::upstream::mcp::upstream_stream::UpstreamStream;
use crate::upstream::mcp::{malformed, unreadable};
use crate::usage::{Account, Outcome};

/// Messages that wait for the client; each may be as large as an event.
const MAX_QUEUED: usize = 1;

/// Resumes the call that a raw `requestState` names.
pub(super) async fn call(
    call: &McpCall<'_>,
    state: &str,
    account: &mut Option<Account>,
) -> Result<CallResponse, CallError> {
    let params = &call.message.params;
    let binding = CallBinding {
        owner: HandleOwner { server: &call.server.uid, principal: &call.principal.uid },
        method: call.method,
        exposed: &call.named.exposed,
        original: call.permit.original(),
        digest: &arguments_digest(params.arguments),
    };
    let text = json::string(state).map_err(unreadable)?;
    let parked = ParkedCall::open(call.trust, binding, &text)
        .filter(|parked| parked.upstream == call.permit.entry().upstream.id)
        .ok_or_else(unknown_state)?;
    let answers = answers(call)?;
    match parked.resume_by {
        ResumeBy::NewCall if parked.pending.iter().all(|pending| answers.contains_key(&pending.key())) => {
            super::begin(call, account).await
        }
        ResumeBy::Task if parked.pending.iter().all(|pending| answers.contains_key(&pending.key())) => {
            resume_task(call, &parked, &answers, account).await
        }
        ResumeBy::NewCall | ResumeBy::Task => ask_again(call, &parked.pending, text, account),
        ResumeBy::Held => deliver_to_waiter(call, &parked, &answers, account).await,
        ResumeBy::Event(_) if parked.pending.iter().any(|pending| answers.contains_key(&pending.key())) => {
            resume_stream(call, parked, &answers, account).await
        }
        ResumeBy::Event(_) => ask_again(call, &parked.pending, text, account),
    }
}

fn unknown_state() -> CallError {
    CallError::Client(Failure::params("params.requestState was not issued for this call, or has expired"))
}

/// Reads `inputResponses`, by key. Each is an object.
fn answers<'a>(call: &McpCall<'a>) -> Result<HashMap<String, &'a str>, CallError> {
    let [responses] = json::members(call.message.envelope.params.unwrap_or("{}"), ["inputResponses"])
        .map_err(unreadable)?;
    let mut answers = HashMap::new();
    json::each_member(responses.unwrap_or("{}"), |key, response| {
        if response.starts_with('{') {
            answers.insert(json::string(key)?.into_owned(), response);
        }
        Ok::<_, JsonError>(())
    })
    .map_err(unreadable)?;
    Ok(answers)
}

/// Asks again, where a client sent no input.
fn ask_again(
    call: &McpCall<'_>,
    pending: &[PendingRequest],
    state: Cow<'_, str>,
    account: &mut Option<Account>,
) -> Result<CallResponse, CallError> {
    let state = CallContext::of(call).request_state(&call.named.exposed, state.into_owned());
    let state = state.map_err(|error| CallError::Upstream(malformed(error)))?;
    let body = input_required_response(&call.id(), pending, &state);
    if let Some(account) = account {
        account.ended(Outcome::Ok, body.len());
    }
    Ok(CallResponse::Json { status: http::StatusCode::OK, body })
}

/// Posts the responses, and waits for the task again.
async fn resume_task(
    call: &McpCall<'_>,
    parked: &ParkedCall,
    answers: &HashMap<String, &str>,
    account: &mut Option<Account>,
) -> Result<CallResponse, CallError> {
    let translator = parked_translator(call, parked)?;
    let responses = parked.pending.iter().filter_map(|pending| {
        let response = answers.get(&pending.key())?;
        Some(park::response_to(pending, response))
    });
    let (poller, messages) = TaskPoller::resumed(call, translator.clone())?;
    let has_ended = poller.has_ended().await;
    release_waiter(call, parked);
    // A task that has ended was resumed before, by a retry whose responses the upstream has.
    for body in responses.filter(|_| !has_ended) {
        let posted = translator.send_confirmed(call.context, body).await;
        posted.map_err(|fault| lost(call, &fault))?;
    }
    Ok(poller.start(call, messages, None, account))
}

/// Releases the waiter of a parked call.
fn release_waiter(call: &McpCall<'_>, parked: &ParkedCall) {
    let Some(held_at) = parked.held_at.clone() else { return };
    let environment = std::sync::Arc::clone(&call.context.environment);
    tokio::task::spawn_local(async move {
        let released = Delivery { message: bytes::Bytes::new(), answers: None };
        if let Err(gone) = environment.fleet.deliver(&held_at, released).await {
            tracing::debug!(%gone, "cannot release the waiter of a parked call");
        }
    });
}

fn lost(call: &McpCall<'_>, fault: &Fault) -> CallError {
    tracing::debug!(upstream = %call.permit.entry().upstream.id, %fault, "lost a parked call");
    CallError::Upstream(Fault::Lost { retryable: call.is_safe() })
}

/// Posts the responses, and resumes the stream of the call after its last event.
async fn resume_stream(
    call: &McpCall<'_>,
    parked: ParkedCall,
    answers: &HashMap<String, &str>,
    account: &mut Option<Account>,
) -> Result<CallResponse, CallError> {
    let ResumeBy::Event(event) = &parked.resume_by else { return Err(unknown_state()) };
    let event = HeaderValue::from_bytes(event).map_err(|_| unknown_state())?;
    let context = call.context;
    let end = ParkedCallEnd::of(context, &parked);
    let has_ended = end.has_come();
    let mut stream = UpstreamStream::resumed(context, parked_translator(call, &parked)?, event);
    stream.translator.end = Some(end);
    let pending = &mut stream.translator.pending;
    *pending = std::mem::take(pending).restored(&parked);
    let responses: Vec<_> = answers
        .iter()
        .filter_map(|(key, response)| Some(park::response_to(&pending.take(key)?, response)))
        .collect();
    let translator = stream.translator.clone();
    let posted = async {
        for body in responses {
            translator.send_confirmed(context, body).await?;
        }
        Ok(())
    };
    let lost = |fault: Fault| lost(call, &fault);
    if has_ended {
        // A client whose connection broke off may have the response, if the upstream still has it.
        stream.reconnect_now().await.map_err(lost)?;
        stream.await_replay().await.map_err(lost)?;
        stream.attach_account(account.take());
        return Ok(CallResponse::Events(Box::new(stream).into()));
    }
    if !stream.translator.pending.requests.is_empty() {
        release_waiter(call, &parked);
        posted.await.map_err(lost)?;
        stream.account = account.take();
        stream.translator.pending.ask_now();
        return Ok(CallResponse::Events(Box::new(stream).into()));
    }
    // The stream is resumed before the responses are posted: the messages that follow on them must find a reader.
    stream.reconnect_now().await.map_err(lost)?;
    stream.confirm_resumed().await.map_err(lost)?;
    // Until here the waiter refuses the upstream's requests when nobody comes back.
    release_waiter(call, &parked);
    // A stream with the response was resumed before, by a retry whose responses the upstream has.
    if !stream.has_response() {
        posted.await.map_err(lost)?;
    }
    stream.attach_account(account.take());
    Ok(CallResponse::Events(Box::new(stream).into()))
}

/// Builds the translator of a parked call, wherever it was begun.
fn parked_translator(call: &McpCall<'_>, parked: &ParkedCall) -> Result<ModernOnLegacy, CallError> {
    let upstream = &call.permit.entry().upstream;
    let headers = call.context.http_pool(upstream)?.headers.clone();
    let session = UpstreamSession::at(headers, &parked.session, &parked.version).ok_or_else(unknown_state)?;
    let in_session = CallInSession {
        session: Rc::new(session),
        number: parked.number,
        progress_token: call.message.params.progress_token.map(|raw| call.message.slice(raw)),
    };
    let task = if parked.task.is_empty() {
        CallTask::None
    } else {
        CallTask::Awaited(AwaitedTask::new(&parked.task, parked.number))
    };
    Ok(ModernOnLegacy::new(call, in_session, super::modern_client_of(call)?, task))
}

/// Delivers the input to the waiter that holds the call, and relays the messages that follow.
async fn deliver_to_waiter(
    call: &McpCall<'_>,
    parked: &ParkedCall,
    answers: &HashMap<String, &str>,
    account: &mut Option<Account>,
) -> Result<CallResponse, CallError> {
    let lost = || CallError::Upstream(Fault::Lost { retryable: call.is_safe() });
    let held_at = parked.held_at.as_ref().ok_or_else(unknown_state)?;
    let modern_client = super::modern_client_of(call)?;
    let input = ResumeInput {
        id: call.id(),
        progress_token: call.message.params.progress_token.map(|raw| call.message.slice(raw)),
        level: modern_client.level,
        answers: answers.iter().map(|(key, answer)| (key.clone(), (*answer).to_owned())).collect(),
    };
    let (sender, receiver) = mpsc::channel(MAX_QUEUED);
    let delivery = Delivery { message: input.encode(), answers: Some(sender) };
    match call.context.environment.fleet.deliver(held_at, delivery).await {
        Ok(()) => {}
        Err(Undelivered::Gone) => return Err(lost()),
        Err(_) => return Err(CallError::Client(Failure::Overloaded)),
    }
    let mut source = RelaySource::Waiter(receiver);
    let first = source.next().await.ok_or_else(lost)?;
    let upstream = &call.permit.entry().upstream;
    let relayed = RelayedStream::new(call.context, upstream, call.id(), source, Some(first), account.take());
    Ok(CallResponse::Events(Box::new(relayed).into()))
}
