//! Tools that need something from the client before they can answer.

use rmcp::ErrorData;
use serde_json::{Value, json};

use crate::ask::{Answers, Asked, Call, Question, input_required};
use crate::service::Shared;
use crate::tools::{Answer, Arguments, report_progress, said};
use crate::{forms, tasks};

pub(crate) async fn call(
    shared: &Shared,
    call: &Call,
    name: &str,
    arguments: &Arguments,
    sealed: Option<&str>,
) -> Answer {
    let state = sealed.map(|sealed| shared.state.open(name, sealed)).transpose()?;
    if name == "test_input_required_result_multi_round" {
        return multi_round(shared, call, name, state.as_ref()).await;
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
    let answers = match call.ask(&questions).await? {
        Asked::Answered(answers) => answers,
        Asked::Later(requests) => {
            let state = carries_state(name).then(|| shared.state.seal(name, &json!({"round": 1})));
            return Ok(input_required(requests, state).into());
        }
    };
    if carries_state(name) {
        came_back(call, state.as_ref())?;
    }
    if name == "test_tool_with_task" {
        return Ok(tasks::greet_later(&shared.tasks, answers.field("user_name", "name")));
    }
    Ok(said(conclusion(name, &answers)).into())
}

fn carries_state(name: &str) -> bool {
    name.ends_with("_request_state")
        || name.ends_with("_tampered_state")
        || name.ends_with("_multiple_inputs")
}

fn questions(call: &Call, name: &str, arguments: &Arguments) -> Option<Vec<Question>> {
    let confirm = || Question::elicit("confirm", "Please confirm", &forms::confirmation());
    Some(match name {
        "test_sampling" => vec![Question::sample("answer", &arguments.text("prompt"), 100)],
        "test_elicitation" => vec![Question::elicit("answer", &arguments.text("message"), &forms::contact())],
        "test_elicitation_sep1034_defaults" => {
            vec![Question::elicit("answer", "Please review", &forms::defaults())]
        }
        "test_elicitation_sep1330_enums" => {
            vec![Question::elicit("answer", "Please choose", &forms::choices())]
        }
        "test_list_roots" | "test_input_required_result_list_roots" => vec![Question::roots("client_roots")],
        "test_input_required_result_elicitation" | "test_tool_with_task" => vec![user_name()],
        "test_input_required_result_sampling" => {
            vec![Question::sample("capital_question", "What is the capital of France?", 100)]
        }
        "test_streaming_elicitation"
        | "test_input_required_result_request_state"
        | "test_input_required_result_tampered_state" => vec![confirm()],
        "test_input_required_result_multiple_inputs" => everything().into(),
        "test_input_required_result_capabilities" => {
            everything().into_iter().filter(|question| call.declares(question.needs())).collect()
        }
        _ => return None,
    })
}

fn user_name() -> Question {
    Question::form("user_name", "What is your name?", "name")
}

/// One of each kind.
fn everything() -> [Question; 3] {
    [user_name(), Question::sample("greeting", "Generate a greeting", 50), Question::roots("client_roots")]
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

/// One question after the other; what the first gave is in the state until the second is answered.
async fn multi_round(shared: &Shared, call: &Call, name: &str, state: Option<&Value>) -> Answer {
    let later =
        |requests, state: &Value| Ok(input_required(requests, Some(shared.state.seal(name, state))).into());
    let user = match state.and_then(|state| state["name"].as_str()) {
        Some(user) => user.to_owned(),
        None => match call.ask(&[Question::form("step1", "Step 1: What is your name?", "name")]).await? {
            Asked::Later(requests) => return later(requests, &json!({"round": 1})),
            Asked::Answered(answers) => answers.field("step1", "name"),
        },
    };
    came_back(call, state)?;
    match call.ask(&[Question::form("step2", "Step 2: What is your favorite color?", "color")]).await? {
        Asked::Later(requests) => later(requests, &json!({"name": user})),
        Asked::Answered(answers) => {
            Ok(said(format!("{user} likes {}", answers.field("step2", "color"))).into())
        }
    }
}

/// An answer without the state that belongs to it is none.
fn came_back(call: &Call, state: Option<&Value>) -> Result<(), ErrorData> {
    let is_missing = call.is_modern() && state.is_none();
    if is_missing { Err(ErrorData::invalid_params("requestState is missing", None)) } else { Ok(()) }
}

fn outcome(answer: &Value) -> String {
    format!("action={}, content={}", answer["action"].as_str().unwrap_or_default(), answer["content"])
}
