//! `tools/call`: tools that answer by themselves, and where the others stand.

use std::time::Duration;

use rmcp::model::{CallToolRequestParams, CallToolResponse, CallToolResult, JsonObject};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};

use crate::ask::Call;
use crate::catalog::{complete, typed};
use crate::changes::Change;
use crate::hangup::Hangup;
use crate::service::Shared;
use crate::{asking, content, tasks};

pub(crate) type Answer = Result<CallToolResponse, ErrorData>;

pub(crate) fn said(text: impl Into<String>) -> CallToolResult {
    complete(json!({"content": [content::text(text)]}))
}

pub(crate) fn failed(text: impl Into<String>) -> CallToolResult {
    complete(json!({"content": [content::text(text)], "isError": true}))
}

pub(crate) async fn call(
    shared: &Shared,
    mut params: CallToolRequestParams,
    context: RequestContext<RoleServer>,
) -> Answer {
    let call = Call { context, responses: params.input_responses.take() };
    let arguments = Arguments(params.arguments.unwrap_or_default());
    let sealed = params.request_state;
    if let Some(answer) = fixed(&params.name) {
        return Ok(answer.into());
    }
    match params.name.as_ref() {
        "test_tool_with_logging" => logging(&call, &STEPS).await,
        "test_logging_tool" => logging(&call, &STEPS[..1]).await,
        "test_tool_with_progress" => progress(&call).await,
        "test_reconnection" => reconnection(&call).await,
        "test_missing_capability" => call.require("sampling").map(|()| said("Sampling is declared").into()),
        "test_custom_header" => Ok(said(format!("value={}", arguments.text("value"))).into()),
        "json_schema_2020_12_tool" => Ok(said(Value::Object(arguments.0).to_string()).into()),
        "test_trigger_tool_change" => announce(shared, Change::Tools),
        "test_trigger_prompt_change" => announce(shared, Change::Prompts),
        "test_trigger_resource_change" => announce(shared, Change::Resources),
        "test_trigger_resource_update" => {
            announce(shared, Change::Resource(arguments.text_or("uri", "test://watched-resource")))
        }
        "greet" => Ok(said(format!("Hello, {}!", arguments.text("name"))).into()),
        "slow_compute" => Ok(tasks::slow_compute(
            &shared.tasks,
            &call,
            arguments.number("seconds"),
            arguments.text("label"),
        )
        .await),
        "failing_job" => tasks::require(&call).map(|()| tasks::failing_job(&shared.tasks)),
        "protocol_error_job" => tasks::require(&call).map(|()| tasks::protocol_error_job(&shared.tasks)),
        "confirm_delete" => {
            tasks::require(&call).map(|()| tasks::confirm_delete(&shared.tasks, arguments.text("filename")))
        }
        "multi_input" => tasks::require(&call).map(|()| tasks::multi_input(&shared.tasks)),
        name => asking::call(shared, &call, name, &arguments, sealed.as_deref()).await,
    }
}

fn fixed(name: &str) -> Option<CallToolResult> {
    let contents = match name {
        "test_simple_text" => vec![content::text("This is a simple text response for testing.")],
        "test_image_content" => vec![content::image()],
        "test_audio_content" => vec![content::audio()],
        "test_embedded_resource" => {
            vec![content::resource(
                "test://embedded-resource",
                "text/plain",
                "This is an embedded resource content.",
            )]
        }
        "test_multiple_content_types" => vec![
            content::text("Multiple content types test:"),
            content::image(),
            content::resource(
                "test://mixed-content-resource",
                "application/json",
                r#"{"test":"data","value":123}"#,
            ),
        ],
        "test_error_handling" => return Some(failed("This tool intentionally returns an error for testing")),
        _ => return None,
    };
    Some(complete(json!({"content": contents})))
}

const STEPS: [&str; 3] = ["Tool execution started", "Tool processing data", "Tool execution completed"];
const PAUSE: Duration = Duration::from_millis(50);

#[expect(deprecated, reason = "logging is deprecated and still has to work")]
async fn logging(call: &Call, lines: &[&str]) -> Answer {
    // In 2026-07-28 only who names a level gets logs; before that the server may choose.
    let wanted = !call.is_modern() || call.context.meta.log_level().is_some();
    for line in lines {
        if wanted {
            let message = typed(json!({"level": "info", "logger": "conformance", "data": line}));
            deliver(call.context.peer.notify_logging_message(message).await)?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(said("Logged").into())
}

async fn progress(call: &Call) -> Answer {
    for done in [0, 50, 100] {
        report_progress(call, done).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(said("Done in three steps").into())
}

pub(crate) async fn report_progress(call: &Call, done: u32) -> Result<(), ErrorData> {
    let Some(token) = call.context.meta.get_progress_token() else { return Ok(()) };
    let progress = typed(json!({"progressToken": token, "progress": done, "total": 100}));
    deliver(call.context.peer.notify_progress(progress).await)
}

fn deliver(sent: Result<(), rmcp::ServiceError>) -> Result<(), ErrorData> {
    sent.map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

async fn reconnection(call: &Call) -> Answer {
    tokio::time::sleep(PAUSE).await;
    // Without sessions there is no way back, so a client of 2026-07-28 keeps its stream.
    if !call.is_modern()
        && let Some(hangup) = call.context.extensions.get::<http::request::Parts>()
        && let Some(hangup) = hangup.extensions.get::<Hangup>()
    {
        hangup.hang_up();
    }
    tokio::time::sleep(PAUSE * 4).await;
    Ok(said("Reconnection test completed").into())
}

fn announce(shared: &Shared, change: Change) -> Answer {
    let told = format!("Announced: {change:?}");
    shared.changes.announce(change);
    Ok(said(told).into())
}

/// The arguments of a call, which may be left out altogether.
pub(crate) struct Arguments(JsonObject);

impl Arguments {
    pub(crate) fn text(&self, name: &str) -> String {
        self.text_or(name, "")
    }

    fn text_or(&self, name: &str, otherwise: &str) -> String {
        self.0.get(name).and_then(Value::as_str).unwrap_or(otherwise).to_owned()
    }

    fn number(&self, name: &str) -> f64 {
        self.0.get(name).and_then(Value::as_f64).unwrap_or_default()
    }
}
