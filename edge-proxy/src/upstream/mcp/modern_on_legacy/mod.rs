//! Calls of modern clients at legacy upstreams: in a session of clients with the same capabilities, until the client
//! hangs up, which cancels the call.

mod ended_call;
mod held_open;
mod park;
mod parked_call;
mod resume_with_input;
mod task_handoff;
mod task_polling;
mod translator;

use std::rc::Rc;

use bytes::Bytes;
use mcp::extension::declares_tasks;

pub(super) use self::task_handoff::call as call_about_task;
pub(in crate::upstream) use self::translator::ModernOnLegacy;
use self::translator::{CallTask, ModernClient};
use crate::error::{Failure, Fault};
use crate::session::LogLevel;
use crate::session::capabilities::Capabilities;
use crate::snapshot::TaskSupport;
use crate::upstream::call::{CallError, CallResponse, record_outcome};
use crate::upstream::mcp::McpCall;
use crate::upstream::mcp::message_source::RawResponse;
use crate::upstream::mcp::repeat::SentCall;
use crate::upstream::mcp::response::TranslatedResponse;
use crate::upstream::mcp::rewrite::requests;
use crate::upstream::mcp::session::{SessionKey, SessionPool};
use crate::upstream::mcp::session_messages::CancelOnDrop;
use crate::upstream::mcp::translator::CallInSession;
use crate::upstream::mcp::unreadable;
use crate::usage::Account;

/// Makes a call, or resumes one that was parked.
pub(super) async fn call(mut call: McpCall<'_>) -> Result<CallResponse, CallError> {
    let mut account = call.account.take();
    let answered = match call.message.params.request_state {
        None => begin(&call, &mut account).await,
        Some(state) => Box::pin(resume_with_input::call(&call, state, &mut account)).await,
    };
    record_outcome(answered, &mut account)
}

/// Makes the call: as a task that is handed to the client, as a task that the edge waits for, or without one. A client
/// that can be asked something is handed none, since tasks of the two eras require input in different ways.
async fn begin(call: &McpCall<'_>, account: &mut Option<Account>) -> Result<CallResponse, CallError> {
    let support = call.permit.entry().tool.tasks;
    let modern_client = modern_client_of(call)?;
    let knows = || call.message.params.capabilities.is_some_and(declares_tasks);
    if support != TaskSupport::Forbidden && modern_client.capabilities == Capabilities::default() && knows() {
        let tool = call.named.exposed.as_ref().into();
        return call_directly(call, modern_client, CallTask::HandedOff { tool }, account).await;
    }
    match support {
        TaskSupport::Required => Box::pin(task_polling::call(call, modern_client, account)).await,
        TaskSupport::Optional | TaskSupport::Forbidden => {
            call_directly(call, modern_client, CallTask::None, account).await
        }
    }
}

async fn call_directly(
    call: &McpCall<'_>,
    modern_client: ModernClient,
    created: CallTask,
    account: &mut Option<Account>,
) -> Result<CallResponse, CallError> {
    let task = matches!(created, CallTask::HandedOff { .. }).then_some("{}");
    let capabilities = modern_client.capabilities;
    let sent = send(call, capabilities, modern_client.level, task).await?;
    let translator = ModernOnLegacy::new(call, sent.in_session.clone(), modern_client, created);
    Ok(sent.read(call, translator, account).await?.0.into())
}

/// A call that was sent in a session of modern clients.
struct Sent {
    pool: Rc<SessionPool>,
    answered: RawResponse,
    in_session: CallInSession,
    body: Bytes,
}

impl Sent {
    /// Reads the response. Returns it with the session that it came in, which is another where the first was lost.
    async fn read(
        self,
        call: &McpCall<'_>,
        translator: ModernOnLegacy,
        account: &mut Option<Account>,
    ) -> Result<(TranslatedResponse<ModernOnLegacy>, CallInSession), Fault> {
        let Self { pool, answered, mut in_session, body } = self;
        let (context, retry) = (call.context, call.retry());
        let sent = SentCall { context, pool: &pool, in_session: in_session.clone(), body: &body, retry };
        let rejoin = |translator: &mut ModernOnLegacy, session| {
            translator.in_session.session = Rc::clone(&session);
            in_session.session = session;
            None
        };
        let response = sent.read(answered, translator, account, None, rejoin).await?;
        Ok((response, in_session))
    }
}

/// Sends a call in a session of clients with these capabilities and, for now, this level of log messages, as a task with
/// the parameters in `task`.
async fn send(
    call: &McpCall<'_>,
    capabilities: Capabilities,
    level: Option<LogLevel>,
    task: Option<&str>,
) -> Result<Sent, CallError> {
    let context = call.context;
    let upstream = &call.permit.entry().upstream;
    let key = SessionKey::of_modern_clients(upstream, capabilities);
    let pool = context.session_pool(upstream, call.upstream, key, call.principal)?;
    let number = context.mcp.next_request_id();
    let body = requests::to_legacy(call, number, task).map_err(unreadable)?;
    if let Some(level) = level {
        pool.ensure_level(level).await;
    }
    let mut cancel_on_drop = CancelOnDrop::new(&pool, number);
    let sent = pool.call(number, &body, call.retry()).await;
    cancel_on_drop.armed = matches!(sent, Err(Fault::Timeout));
    let (answered, session) = sent?;
    let progress_token = call.message.params.progress_token.map(|raw| call.message.slice(raw));
    let in_session = CallInSession { session, number, progress_token };
    Ok(Sent { pool, answered, in_session, body })
}

fn modern_client_of(call: &McpCall<'_>) -> Result<ModernClient, CallError> {
    let params = &call.message.params;
    let capabilities = Capabilities::of_client(params.capabilities.unwrap_or("{}")).map_err(unreadable)?;
    let level = params.log_level.map(|raw| {
        LogLevel::parse(raw)
            .ok_or_else(|| CallError::Client(Failure::params("the log level in _meta is invalid")))
    });
    Ok(ModernClient {
        exposed: call.named.exposed.as_ref().into(),
        capabilities,
        level: level.transpose()?,
        arguments: params.arguments.map(|raw| call.message.slice(raw)),
    })
}
