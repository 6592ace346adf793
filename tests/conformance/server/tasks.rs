//! Tools that go on as a task (`io.modelcontextprotocol/tasks`) when the client knows tasks.

use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::{CallToolResponse, CallToolResult, ClientCapabilities, CreateTaskResult};
use rmcp::task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions};
use serde_json::Value;

use crate::ask::{Call, Question};
use crate::catalog::typed;
use crate::tools::{failed, said};

/// Refuses a client that could not follow the task that the tool needs.
pub(crate) fn require(call: &Call) -> Result<(), ErrorData> {
    if call.knows_tasks() {
        return Ok(());
    }
    Err(ErrorData::missing_required_client_capability(ClientCapabilities::builder().enable_tasks().build()))
}

/// Starts `work` as a task; its id is known before this returns.
fn start<F>(tasks: &TaskManager, work: impl FnOnce(TaskContext) -> F) -> CallToolResponse
where
    F: Future<Output = Result<CallToolResult, TaskExit>> + Send + 'static,
{
    let options = TaskOptions::new().with_poll_interval_ms(200);
    CreateTaskResult::new(tasks.spawn(options, |task| Box::pin(work(task)))).into()
}

pub(crate) async fn slow_compute(
    tasks: &TaskManager,
    call: &Call,
    seconds: f64,
    label: String,
) -> CallToolResponse {
    let took = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let done = move || said(format!("Computed {label} in {seconds} s"));
    if !call.knows_tasks() {
        tokio::time::sleep(took).await;
        return done().into();
    }
    start(tasks, |task| async move {
        tokio::select! {
            () = tokio::time::sleep(took) => Ok(done()),
            () = task.cancelled() => Err(TaskExit::Cancelled),
        }
    })
}

pub(crate) fn failing_job(tasks: &TaskManager) -> CallToolResponse {
    start(tasks, |_| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(failed("The job failed, as it always does"))
    })
}

pub(crate) fn protocol_error_job(tasks: &TaskManager) -> CallToolResponse {
    start(tasks, |_| async {
        Err(TaskExit::Error(ErrorData::internal_error("The job broke the protocol", None)))
    })
}

pub(crate) fn confirm_delete(tasks: &TaskManager, filename: String) -> CallToolResponse {
    start(tasks, |task| async move {
        let answer = elicit(&task, "confirm", &format!("Delete {filename}?")).await?;
        let verdict = if answer["action"] == "accept" { "Deleted" } else { "Kept" };
        Ok(said(format!("{verdict} {filename}")))
    })
}

pub(crate) fn multi_input(tasks: &TaskManager) -> CallToolResponse {
    start(tasks, |task| async move {
        let (first, second) = tokio::try_join!(
            elicit(&task, "first", "The first question"),
            elicit(&task, "second", "The second question")
        )?;
        Ok(said(format!("first={}, second={}", first["action"], second["action"])))
    })
}

pub(crate) fn greet_later(tasks: &TaskManager, name: String) -> CallToolResponse {
    start(tasks, |_| async move { Ok(said(format!("Hello from a task, {name}!"))) })
}

async fn elicit(task: &TaskContext, key: &'static str, message: &str) -> Result<Value, TaskExit> {
    let schema = serde_json::json!({"type": "object", "properties": {"confirm": {"type": "boolean"}}});
    task.request_input(key, typed(Question::elicit(key, message, &schema).request().clone())).await
}
