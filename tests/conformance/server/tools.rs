//! `tools/call`.

use std::time::Duration;

use rmcp::model::{CallToolRequestParams, CallToolResponse, CallToolResult, JsonObject};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};

use crate::ask::{Answers, Asked, Call, Question, input_required};
use crate::catalog::{complete, typed};
use crate::changes::Change;
use crate::hangup::Hangup;
use crate::service::Shared;
use crate::{content, tasks};

type Answer = Result<CallToolResponse, ErrorData>;

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
        name => asking(shared, &call, name, &arguments, sealed.as_deref()).await,
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

async fn report_progress(call: &Call, done: u32) -> Result<(), ErrorData> {
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

/// Tools that need something from the client before they can answer.
async fn asking(
    shared: &Shared,
    call: &Call,
    name: &str,
    arguments: &Arguments,
    sealed: Option<&str>,
) -> Answer {
    let state = sealed.map(|sealed| shared.state.open(name, sealed)).transpose()?;
    if name == "test_input_required_result_multi_round" {
        return multi_round(shared, call, name, state).await;
    }
    let Some(questions) = questions(call, name, arguments) else {
        return Err(ErrorData::invalid_params(format!("Unknown tool: {name}"), None));
    };
    if name == "test_streaming_elicitation" {
        report_progress(call, 50).await?;
    }
    if name == "test_tool_with_task" {
        tasks::require(call)?;
    }
    match call.ask(&questions).await? {
        Asked::Later(requests) => {
            let state = carries_state(name).then(|| shared.state.seal(name, &json!({"round": 1})));
            Ok(input_required(requests, state).into())
        }
        Asked::Answered(_) if carries_state(name) && call.is_modern() && state.is_none() => {
            Err(ErrorData::invalid_params("requestState is missing", None))
        }
        Asked::Answered(answers) if name == "test_tool_with_task" => {
            Ok(tasks::greet_later(&shared.tasks, answers.field("user_name", "name")))
        }
        Asked::Answered(answers) => Ok(said(conclusion(name, &answers)).into()),
    }
}

fn carries_state(name: &str) -> bool {
    name.ends_with("_request_state")
        || name.ends_with("_tampered_state")
        || name.ends_with("_multiple_inputs")
}

fn questions(call: &Call, name: &str, arguments: &Arguments) -> Option<Vec<Question>> {
    let user_name = || Question::form("user_name", "What is your name?", "name");
    let confirm = || Question::elicit("confirm", "Please confirm", &confirmation());
    Some(match name {
        "test_sampling" => vec![Question::sample("answer", &arguments.text("prompt"), 100)],
        "test_elicitation" => vec![Question::elicit("answer", &arguments.text("message"), &contact())],
        "test_elicitation_sep1034_defaults" => vec![Question::elicit("answer", "Please review", &defaults())],
        "test_elicitation_sep1330_enums" => vec![Question::elicit("answer", "Please choose", &choices())],
        "test_list_roots" | "test_input_required_result_list_roots" => vec![Question::roots("client_roots")],
        "test_input_required_result_elicitation" | "test_tool_with_task" => vec![user_name()],
        "test_input_required_result_sampling" => {
            vec![Question::sample("capital_question", "What is the capital of France?", 100)]
        }
        "test_streaming_elicitation"
        | "test_input_required_result_request_state"
        | "test_input_required_result_tampered_state" => vec![confirm()],
        "test_input_required_result_multiple_inputs" => {
            vec![
                user_name(),
                Question::sample("greeting", "Generate a greeting", 50),
                Question::roots("client_roots"),
            ]
        }
        "test_input_required_result_capabilities" => {
            let all = [
                user_name(),
                Question::sample("greeting", "Generate a greeting", 50),
                Question::roots("client_roots"),
            ];
            all.into_iter().filter(|question| call.declares(question.needs())).collect()
        }
        _ => return None,
    })
}

fn conclusion(name: &str, answers: &Answers) -> String {
    match name {
        "test_sampling" => format!("LLM response: {}", answers.sampled("answer")),
        "test_elicitation" => format!("User response: {}", outcome(answers.get("answer"))),
        "test_elicitation_sep1034_defaults" | "test_elicitation_sep1330_enums" => {
            format!("Elicitation completed: {}", outcome(answers.get("answer")))
        }
        "test_list_roots" | "test_input_required_result_list_roots" => {
            format!("Roots: {}", answers.get("client_roots")["roots"])
        }
        "test_input_required_result_elicitation" => format!("Hello, {}!", answers.field("user_name", "name")),
        "test_input_required_result_sampling" => {
            format!("The model says: {}", answers.sampled("capital_question"))
        }
        "test_streaming_elicitation" => format!("Confirmed: {}", answers.get("confirm")["action"]),
        "test_input_required_result_multiple_inputs" => format!(
            "{}: {} ({})",
            answers.field("user_name", "name"),
            answers.sampled("greeting"),
            answers.get("client_roots")["roots"]
        ),
        _ => "state-ok".to_owned(),
    }
}

async fn multi_round(shared: &Shared, call: &Call, name: &str, state: Option<Value>) -> Answer {
    let first = Question::form("step1", "Step 1: What is your name?", "name");
    let second = Question::form("step2", "Step 2: What is your favorite color?", "color");
    if !call.is_modern() {
        let Asked::Answered(answers) = call.ask(&[first, second]).await? else { return Ok(said("").into()) };
        return Ok(said(likes(&answers.field("step1", "name"), &answers)).into());
    }
    let Some(user) = state.as_ref().and_then(|state| state["name"].as_str()) else {
        return match call.ask(&[first]).await? {
            Asked::Answered(answers) if state.is_some() => {
                let state = shared.state.seal(name, &json!({"name": answers.field("step1", "name")}));
                let second = serde_json::Map::from_iter([("step2".to_owned(), second.request().clone())]);
                Ok(input_required(second, Some(state)).into())
            }
            Asked::Answered(_) => Err(ErrorData::invalid_params("requestState is missing", None)),
            Asked::Later(requests) => {
                Ok(input_required(requests, Some(shared.state.seal(name, &json!({"round": 1})))).into())
            }
        };
    };
    match call.ask(&[second]).await? {
        Asked::Answered(answers) => Ok(said(likes(user, &answers)).into()),
        Asked::Later(requests) => {
            Ok(input_required(requests, Some(shared.state.seal(name, &json!({"name": user})))).into())
        }
    }
}

fn likes(name: &str, answers: &Answers) -> String {
    format!("{name} likes {}", answers.field("step2", "color"))
}

fn outcome(answer: &Value) -> String {
    format!("action={}, content={}", answer["action"].as_str().unwrap_or_default(), answer["content"])
}

fn confirmation() -> Value {
    json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]})
}

fn contact() -> Value {
    let properties = json!({
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    });
    json!({"type": "object", "properties": properties, "required": ["username", "email"]})
}

/// SEP-1034: a default for every primitive type.
fn defaults() -> Value {
    let properties = json!({
        "name": {"type": "string", "description": "Name", "default": "John Doe"},
        "age": {"type": "integer", "description": "Age", "default": 30},
        "score": {"type": "number", "description": "Score", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "description": "Verified", "default": true},
    });
    json!({"type": "object", "properties": properties})
}

/// SEP-1330: one or several, titled or not, and the older way of giving titles.
fn choices() -> Value {
    let titled = |last: &str| {
        json!([
            {"const": "value1", "title": format!("First {last}")},
            {"const": "value2", "title": format!("Second {last}")},
            {"const": "value3", "title": format!("Third {last}")},
        ])
    };
    let plain = json!(["option1", "option2", "option3"]);
    let names = json!(["Option One", "Option Two", "Option Three"]);
    let properties = json!({
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": titled("Option")},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": names},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled("Choice")}},
    });
    json!({"type": "object", "properties": properties})
}

/// The arguments of a call, which may be left out altogether.
struct Arguments(JsonObject);

impl Arguments {
    fn text(&self, name: &str) -> String {
        self.text_or(name, "")
    }

    fn text_or(&self, name: &str, otherwise: &str) -> String {
        self.0.get(name).and_then(Value::as_str).unwrap_or(otherwise).to_owned()
    }

    fn number(&self, name: &str) -> f64 {
        self.0.get(name).and_then(Value::as_f64).unwrap_or_default()
    }
}
