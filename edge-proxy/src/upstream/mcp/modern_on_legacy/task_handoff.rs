//! Hands a legacy upstream's task to a modern client that declared the extension, and translates its requests about it.
//!
//! It must not know how the task was created.

use std::rc::Rc;

use bytes::Bytes;
use http::StatusCode;
use mcp::json;
use mcp::message::Envelope;
use mcp::method::Method;

use super::modern_client_of;
use super::translator::{AwaitedTask, CallTask, ModernOnLegacy};
use crate::error::Fault;
use crate::session::capabilities::Capabilities;
use crate::upstream::call::{CallError, CallResponse, record_outcome};
use crate::upstream::connect::Retry;
use crate::upstream::mcp::message_source::RawResponse;
use crate::upstream::mcp::outcome::outcome_of_response;
use crate::upstream::mcp::response::{TranslatedResponse, read_response, read_rpc_response};
use crate::upstream::mcp::rewrite::{masks, responses, tasks};
use crate::upstream::mcp::session::{SessionKey, SessionPool, UpstreamSession};
use crate::upstream::mcp::task::{self, Task};
use crate::upstream::mcp::translator::CallInSession;
use crate::upstream::mcp::{McpCall, malformed};

/// Answers a client's request about its task.
pub(in crate::upstream::mcp) async fn call(mut call: McpCall<'_>) -> Result<CallResponse, CallError> {
    let mut account = call.account.take();
    let body = record_outcome(task_response(&call).await, &mut account)?;
    if let Some(account) = &mut account {
        account.ended(outcome_of_response(&body), body.len());
    }
    Ok(CallResponse::Json { status: StatusCode::OK, body })
}

async fn task_response(call: &McpCall<'_>) -> Result<Bytes, CallError> {
    let Some((task, raw)) = &call.task else { return Err(Fault::Interrupted.into()) };
    let upstream = &call.permit.entry().upstream;
    let pool = call.context.session_pool(
        upstream,
        call.upstream,
        SessionKey::of_modern_clients(upstream, Capabilities::default()),
        call.principal,
    )?;
    let query = TaskQuery { call, pool, task };
    let result = match call.method {
        Method::TasksGet => query.status(raw).await?,
        Method::TasksCancel => query.cancel().await?,
        // The client was asked for no input, so the upstream waits for none.
        _ => query.request_small(Method::TasksGet).await?.map(|_| ACKNOWLEDGED.to_owned()),
    };
    let (member, result) = match result {
        Ok(result) => ("result", result),
        Err(error) => ("error", error),
    };
    let response = responses::render(&call.id(), member, &result);
    match call.permit.masks() {
        None => Ok(response),
        Some(masks) => Ok(masks::take_away(&response, masks)?.unwrap_or_default()),
    }
}

/// The result of a request that has none.
const ACKNOWLEDGED: &str = r#"{"resultType":"complete"}"#;

/// A raw result, or a raw error of the upstream.
type RpcResult = Result<String, String>;

/// A client's request about its task.
struct TaskQuery<'a> {
    call: &'a McpCall<'a>,
    pool: Rc<SessionPool>,
    task: &'a Task,
}

impl TaskQuery<'_> {
    /// Returns the status of the task, with its result where it is finished.
    async fn status(&self, id: &str) -> Result<RpcResult, CallError> {
        let task = match self.request_small(Method::TasksGet).await? {
            Ok(task) => task,
            Err(error) => return Ok(Err(error)),
        };
        let [status] = json::members(&task, ["status"]).map_err(malformed)?;
        let result;
        let mut more = vec![("resultType", Some(r#""complete""#))];
        match status {
            // A failed task has a result as well, where the tool failed and not the protocol.
            Some(r#""completed""# | r#""failed""#) => {
                result = self.fetch_result().await?;
                let (status, member) = match &result {
                    Ok(_) => (r#""completed""#, "result"),
                    Err(_) => (r#""failed""#, "error"),
                };
                let result = result.as_ref().unwrap_or_else(|error| error);
                more.extend([("status", Some(status)), (member, Some(result.as_str()))]);
            }
            Some(r#""input_required""#) => more.push(("inputRequests", Some("{}"))),
            _ => {}
        }
        Ok(Ok(tasks::to_modern(&task, id, &more).map_err(malformed)?))
    }

    /// Cancels the task. In the legacy era a finished task cannot be cancelled, which is no error in the modern one.
    async fn cancel(&self) -> Result<RpcResult, CallError> {
        let result = match self.request_small(Method::TasksCancel).await? {
            Ok(cancelled) => Ok(cancelled),
            Err(_) => self.request_small(Method::TasksGet).await?,
        };
        Ok(result.map(|_| ACKNOWLEDGED.to_owned()))
    }

    /// Sends a request whose response is small.
    async fn request_small(&self, method: Method) -> Result<RpcResult, CallError> {
        let (answered, ..) = self.request(method).await?;
        let answer = match answered {
            RawResponse::Http(response) => read_rpc_response(response).await?,
            RawResponse::Channel(mut messages) => messages.response().await?,
        };
        parse_rpc_result(&answer)
    }

    /// Fetches the result of a finished task.
    async fn fetch_result(&self) -> Result<RpcResult, CallError> {
        let (answered, session, number) = self.request(Method::TasksResult).await?;
        let in_session = CallInSession { session, number, progress_token: None };
        let task = CallTask::Awaited(AwaitedTask::finished(&self.task.id));
        let translator = ModernOnLegacy::new(self.call, in_session, modern_client_of(self.call)?, task);
        let response = read_response(self.call.context, answered, translator, &mut None, None).await?;
        let mut stream = match response {
            TranslatedResponse::Events(stream) => stream,
            TranslatedResponse::Json { body, .. } => return parse_rpc_result(&body),
        };
        while let Some(message) = stream.next_message().await? {
            if stream.is_finished() {
                return parse_rpc_result(&message);
            }
        }
        Err(Fault::Interrupted.into())
    }

    async fn request(&self, method: Method) -> Result<(RawResponse, Rc<UpstreamSession>, u64), CallError> {
        let number = self.call.context.mcp.next_request_id();
        let body = task::request(method, number, &json::quote(&self.task.id));
        let patience = self.call.permit.entry().upstream.request_timeout;
        let (answered, session) = self.task.ask(&self.pool, number, &body, Retry::Safe, patience).await?;
        Ok((answered, session, number))
    }
}

fn parse_rpc_result(answer: &[u8]) -> Result<RpcResult, CallError> {
    let envelope = Envelope::parse(answer).map_err(malformed)?;
    match (envelope.result, envelope.error) {
        (Some(result), _) => Ok(Ok(result.to_owned())),
        (None, Some(error)) => Ok(Err(error.to_owned())),
        (None, None) => Err(Fault::Malformed("a message that is not a response".to_owned()).into()),
    }
}
