//! Polls a task for a modern client that does not know tasks, where a legacy upstream's tool can be called only as one:
//! the task is created and awaited, and its result is the response.
//!
//! A task of this worker waits, until the client hangs up, which cancels the upstream's. It must not know how a call is
//! parked.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use mcp::json;
use mcp::message::Envelope;
use mcp::method::Method;
use mcp::revision::Era;
use tokio::sync::mpsc;

use super::translator::{AwaitedTask, CallTask, ModernClient, ModernOnLegacy};
use super::{modern_client_of, send};
use crate::error::{ErrorContext, Fault};
use crate::session::capabilities::Capabilities;
use crate::upstream::Context;
use crate::upstream::call::{CallError, CallResponse};
use crate::upstream::connect::Retry;
use crate::upstream::mcp::McpCall;
use crate::upstream::mcp::message_source::RawResponse;
use crate::upstream::mcp::outcome::outcome_of_response;
use crate::upstream::mcp::relayed_stream::{RelaySource, RelayedMessage, RelayedStream};
use crate::upstream::mcp::response::{TranslatedResponse, read_response, read_rpc_response};
use crate::upstream::mcp::session::{SessionKey, SessionPool, SessionTransport};
use crate::upstream::mcp::translator::{CallContext, Translator as _};
use crate::upstream::mcp::{MAX_KEPT, poll_interval, session_messages, task};
use crate::usage::Account;

/// Messages that wait for the client; each may be as large as an event.
const MAX_QUEUED: usize = 1;
/// Longest wait for the result of a finished task.
const RESULT_GRACE: Duration = Duration::from_secs(5);
/// Failed polls in a row.
const MAX_FAILED_POLLS: u32 = 3;
/// Requests for the result, where its stream is cut off.
const MAX_ATTEMPTS: usize = 10;

/// The response to the call that creates a task.
type Created = TranslatedResponse<ModernOnLegacy>;

/// A task that a call created.
struct CreatedTask {
    /// Its raw id.
    id: Box<str>,
    /// The poll interval.
    interval: Duration,
}

/// A call that waits for its task.
pub(super) struct TaskPoller {
    context: Rc<Context>,
    pool: Rc<SessionPool>,
    translator: ModernOnLegacy,
    client: mpsc::Sender<RelayedMessage>,
    interval: Duration,
}

/// Calls a tool as a task, and responds with its result.
pub(super) async fn call(
    call: &McpCall<'_>,
    modern_client: ModernClient,
    account: &mut Option<Account>,
) -> Result<CallResponse, CallError> {
    let ModernClient { capabilities, level, .. } = modern_client;
    let sent = send(call, capabilities, level, Some("{}")).await?;
    let (pool, in_session) = (Rc::clone(&sent.pool), sent.in_session.clone());
    let mut translator = ModernOnLegacy::new(call, in_session, modern_client, CallTask::None);
    // A call could not be resumed if it were parked before there is a task.
    let mut not_asked = translator.clone();
    not_asked.client.capabilities = Capabilities::default();
    let (created, in_session) = sent.read(call, not_asked, &mut None).await?;
    translator.in_session = in_session;
    if let TranslatedResponse::Json { body, .. } = &created
        && CreatedTask::of(body).is_none()
    {
        if let Some(account) = account {
            account.ended(outcome_of_response(body), body.len());
        }
        return Ok(created.into());
    }
    let (poller, messages) = TaskPoller::new(call, pool, translator);
    Ok(poller.start(call, messages, Some(created), account))
}

impl CreatedTask {
    /// Reads the task that a response says was created, if any.
    fn of(message: &[u8]) -> Option<Self> {
        let [created] = json::members(Envelope::parse(message).ok()?.result?, ["task"]).ok()?;
        let [id, interval] = json::members(created?, ["taskId", "pollInterval"]).ok()?;
        Some(Self { id: id?.into(), interval: poll_interval(interval) })
    }
}

/// Whether the stream of a result was cut off, which says nothing about the task.
fn is_stream_fault(fault: &Fault) -> bool {
    matches!(fault, Fault::Interrupted | Fault::Timeout | Fault::Connect(_) | Fault::Status(_))
}

impl TaskPoller {
    /// Returns the poller of a call, and the messages for its client.
    fn new(
        call: &McpCall<'_>,
        pool: Rc<SessionPool>,
        translator: ModernOnLegacy,
    ) -> (Self, mpsc::Receiver<RelayedMessage>) {
        let (client, messages) = mpsc::channel(MAX_QUEUED);
        let context = Rc::clone(call.context);
        (Self { context, pool, translator, client, interval: poll_interval(None) }, messages)
    }

    /// Returns the poller of a parked call, and the messages for its client.
    pub(super) fn resumed(
        call: &McpCall<'_>,
        translator: ModernOnLegacy,
    ) -> Result<(Self, mpsc::Receiver<RelayedMessage>), CallError> {
        let upstream = &call.permit.entry().upstream;
        let key = SessionKey::of_modern_clients(upstream, modern_client_of(call)?.capabilities);
        let pool = call.context.session_pool(upstream, call.upstream, key, call.principal)?;
        Ok(Self::new(call, pool, translator))
    }

    /// Starts the polling in a task of this worker. `created` may be a task or the response.
    pub(super) fn start(
        self,
        call: &McpCall<'_>,
        messages: mpsc::Receiver<RelayedMessage>,
        created: Option<Created>,
        account: &mut Option<Account>,
    ) -> CallResponse {
        tokio::task::spawn_local(self.run(created));
        let (upstream, source) = (&call.permit.entry().upstream, RelaySource::Task(messages));
        let relayed = RelayedStream::new(call.context, upstream, call.id(), source, None, account.take());
        CallResponse::Events(Box::new(relayed).into())
    }

    /// Returns whether the upstream says that the task has ended.
    pub(super) async fn has_ended(&self) -> bool {
        let task = self.translator.awaited_task().unwrap_or_default();
        let Ok(answer) = self.status(task).await else { return false };
        let result = Envelope::parse(&answer).ok().and_then(|answer| answer.result);
        let [status] = json::members(result.unwrap_or("{}"), ["status"]).unwrap_or_default();
        matches!(status, Some(r#""completed""# | r#""failed""# | r#""cancelled""#))
    }

    /// Polls until there is a response, or the client has gone.
    async fn run(mut self, created: Option<Created>) {
        let client = self.client.clone();
        let ended = tokio::select! {
            ended = tokio::time::timeout(task::MAX_LIFETIME, self.poll(created)) => ended.unwrap_or(Err(Fault::Timeout)),
            () = client.closed() => Err(Fault::Interrupted),
        };
        let Err(fault) = ended else { return };
        let why =
            if client.is_closed() { session_messages::CLIENT_GONE } else { session_messages::TIMED_OUT };
        // A call without a task yet is cancelled with its stream.
        if self.translator.awaited_task().is_some() {
            self.translator.cancel(&self.context, why);
        }
        if client.is_closed() {
            return;
        }
        if let Some(counted) = fault.counts_as() {
            self.context.environment.metrics.upstream_fault(counted).inc();
        }
        let CallContext { id, .. } = &self.translator.call;
        let error_context = ErrorContext { id: Some(id.clone()), era: Era::Modern };
        let message = self.translator.call.failure(fault).message(&error_context);
        self.send(message, true).await;
    }

    async fn poll(&mut self, created: Option<Created>) -> Result<(), Fault> {
        if let Some(created) = created {
            let answer = self.creation_response(created).await?;
            let Some(created) = CreatedTask::of(&answer) else {
                self.send(answer, true).await;
                return Ok(());
            };
            if created.id.len() > MAX_KEPT {
                return Err(Fault::Malformed(format!("the id of a task is longer than {MAX_KEPT} bytes")));
            }
            self.interval = created.interval;
            let awaited = AwaitedTask::new(&created.id, self.translator.in_session.number);
            self.translator.task = CallTask::Awaited(awaited);
        }
        let task = self.translator.awaited_task().unwrap_or_default().to_owned();
        for _ in 0..MAX_ATTEMPTS {
            if self.fetch_result(&task).await? {
                return Ok(());
            }
            self.wait_for(&task, false).await?;
        }
        Err(Fault::Interrupted)
    }

    /// Reads the response to the call itself; messages before it go to the client.
    async fn creation_response(&self, created: Created) -> Result<Bytes, Fault> {
        let mut stream = match created {
            TranslatedResponse::Events(stream) => stream,
            TranslatedResponse::Json { body, .. } => return Ok(body),
        };
        while let Some(message) = stream.next_message().await? {
            if stream.is_finished() {
                return Ok(message);
            }
            self.send(message, false).await;
        }
        Err(Fault::Interrupted)
    }

    /// Requests the result, and polls the task meanwhile. Returns whether the client has its response; if not, the
    /// stream of the result was cut off.
    async fn fetch_result(&self, task: &str) -> Result<bool, Fault> {
        let result = self.read_result(task);
        let (mut result, finished) = (pin!(result), pin!(self.wait_for(task, true)));
        let answered = tokio::select! {
            answered = &mut result => answered,
            finished = finished => {
                finished?;
                tokio::time::timeout(RESULT_GRACE, result).await.unwrap_or(Err(Fault::Timeout))
            }
        };
        match answered {
            Ok(()) => Ok(true),
            Err(fault) if is_stream_fault(&fault) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Requests the result, which comes when the task is finished, and relays the messages before it.
    async fn read_result(&self, task: &str) -> Result<(), Fault> {
        let number = self.context.mcp.next_request_id();
        let mut translator = self.translator.clone();
        translator.in_session.number = number;
        let answered = self.request(Method::TasksResult, task, number).await?;
        let response = read_response(&self.context, answered, translator, &mut None, None).await?;
        let mut stream = match response {
            TranslatedResponse::Events(stream) => stream,
            TranslatedResponse::Json { body, .. } => {
                self.send(body, true).await;
                return Ok(());
            }
        };
        while !stream.is_finished() {
            let message = stream.next_message().await.and_then(|message| message.ok_or(Fault::Interrupted));
            // Only the stream has ended, not the task.
            let message = message.inspect_err(|_| stream.close())?;
            self.send(message, stream.is_finished()).await;
        }
        Ok(())
    }

    /// Waits until the task is finished, or, unless `finished`, requires input.
    async fn wait_for(&self, task: &str, finished: bool) -> Result<(), Fault> {
        let (mut interval, mut failures) = (self.interval, 0);
        loop {
            tokio::time::sleep(interval).await;
            let answer = match self.status(task).await {
                Ok(answer) => answer,
                Err(fault) if is_stream_fault(&fault) && failures < MAX_FAILED_POLLS => {
                    failures += 1;
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            failures = 0;
            // A server that no longer knows its task has lost the call.
            let lost = Fault::Lost { retryable: false };
            let result = Envelope::parse(&answer).ok().and_then(|answer| answer.result).ok_or(lost)?;
            let [status, next] = json::members(result, ["status", "pollInterval"]).unwrap_or_default();
            match status {
                Some(r#""working""#) => {}
                Some(r#""input_required""#) if finished => {}
                _ => return Ok(()),
            }
            if next.is_some() {
                interval = poll_interval(next);
            }
        }
    }

    /// Requests the status of the task.
    async fn status(&self, task: &str) -> Result<Bytes, Fault> {
        match self.request(Method::TasksGet, task, self.context.mcp.next_request_id()).await? {
            RawResponse::Http(response) => read_rpc_response(response).await,
            RawResponse::Channel(mut messages) => messages.response().await,
        }
    }

    /// Sends a request about the task, in the session that it was created in where that is no connection.
    async fn request(&self, method: Method, task: &str, number: u64) -> Result<RawResponse, Fault> {
        let body = task::request(method, number, task);
        let session = &self.translator.in_session.session;
        match &session.transport {
            SessionTransport::Http(_) => {
                Ok(RawResponse::Http(self.pool.post(session, body, Retry::Safe).await?))
            }
            SessionTransport::Channel(_) => Ok(self.pool.call(number, &body, Retry::Safe).await?.0),
        }
    }

    async fn send(&self, message: Bytes, is_final: bool) {
        // A client that has gone is noticed by `run`.
        let _: Result<(), _> = self.client.send(RelayedMessage { message, is_final }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_task_is_read_from_the_result() {
        let message = br#"{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"t","status":"working","pollInterval":100}}}"#;
        let created = CreatedTask::of(message).unwrap();
        assert_eq!((&*created.id, created.interval), (r#""t""#, Duration::from_millis(100)));
        for other in [r#"{"content":[]}"#, r#"{"task":{}}"#, r#"{"task":7}"#] {
            let message = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{other}}}"#);
            assert!(CreatedTask::of(message.as_bytes()).is_none(), "{other}");
        }
    }
}
