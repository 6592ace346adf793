//! `prompts/get`.

use rmcp::ErrorData;
use rmcp::model::{GetPromptRequestParams, GetPromptResponse, GetPromptResult};
use serde_json::{Value, json};

use crate::ask::{Asked, Call, Question, input_required};
use crate::catalog::complete;
use crate::content;

pub(crate) async fn get(call: Call, params: GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    let argument = |name: &str| {
        let value =
            params.arguments.as_ref().and_then(|arguments| arguments.get(name)).and_then(Value::as_str);
        value.map(str::to_owned).ok_or_else(|| missing(name))
    };
    let messages = match params.name.as_str() {
        "test_simple_prompt" => vec![content::text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => vec![content::text(format!(
            "Prompt with arguments: arg1='{}', arg2='{}'",
            argument("arg1")?,
            argument("arg2")?
        ))],
        "test_prompt_with_embedded_resource" => vec![
            content::resource(
                &argument("resourceUri")?,
                "text/plain",
                "Embedded resource content for testing.",
            ),
            content::text("Please process the embedded resource above."),
        ],
        "test_prompt_with_image" => vec![content::image(), content::text("Please analyze the image above.")],
        "test_input_required_result_prompt" => {
            let question = Question::form("user_context", "What context should the prompt use?", "context");
            match call.ask(&[question]).await? {
                Asked::Answered(answers) => vec![content::text(format!(
                    "Prompt with context: {}",
                    answers.field("user_context", "context")
                ))],
                Asked::Later(requests) => return Ok(input_required(requests, None).into()),
            }
        }
        unknown => return Err(ErrorData::invalid_params(format!("Unknown prompt: {unknown}"), None)),
    };
    Ok(from_user(messages).into())
}

fn from_user(contents: Vec<Value>) -> GetPromptResult {
    let messages: Vec<_> =
        contents.into_iter().map(|content| json!({"role": "user", "content": content})).collect();
    complete(json!({"messages": messages}))
}

fn missing(name: &str) -> ErrorData {
    ErrorData::invalid_params(format!("Missing argument: {name}"), None)
}
