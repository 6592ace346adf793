//! Input that a modern server requires before it responds: its questions are answered, and the request is sent again.

use super::error::ClientError;
use super::hearer::Hearer;
use super::rpc::RpcClient;
use crate::header::MirroredParam;
use crate::json::{self, JsonError, quote, set_members};

/// Times that a server may require input for one request.
const MAX_ROUNDS: usize = 10;

/// The input that a result requires: the questions by their keys, raw, and what the server remembers itself by.
struct RequiredInput<'r> {
    questions: &'r str,
    state: Option<&'r str>,
}

impl RpcClient {
    /// Sends a request again, with the answers of `hearer`, until its result requires no more input.
    pub(super) async fn call_with_input(
        &self,
        method: &str,
        params: &str,
        mirrored: &[MirroredParam],
        hearer: &mut dyn Hearer,
    ) -> Result<String, ClientError> {
        let mut params = params.to_owned();
        for _ in 0..MAX_ROUNDS {
            let result = self.call_streaming(method, &params, mirrored, hearer).await?;
            let Some(input) = RequiredInput::of(&result)? else { return Ok(result) };
            let answers = input.answers(hearer).await?;
            let given = [("inputResponses", Some(&*answers)), ("requestState", input.state)];
            params = set_members(&params, &given)?;
        }
        Err(ClientError::Protocol(format!("requires input {MAX_ROUNDS} times for one request")))
    }
}

impl<'r> RequiredInput<'r> {
    fn of(result: &'r str) -> Result<Option<Self>, JsonError> {
        if !result.contains("input_required") {
            return Ok(None);
        }
        let [kind, questions, state] =
            json::members(result, ["resultType", "inputRequests", "requestState"])?;
        let asks = kind == Some(r#""input_required""#);
        Ok(asks.then(|| Self { questions: questions.unwrap_or("{}"), state }))
    }

    /// Returns the answers by the keys of their questions, a raw JSON object.
    async fn answers(&self, hearer: &mut dyn Hearer) -> Result<String, ClientError> {
        let mut questions = Vec::new();
        json::each_member(self.questions, |key, question| {
            questions.push((key, question));
            Ok(())
        })?;
        let mut answers = Vec::new();
        for (key, question) in questions {
            let [method, params] = json::members(question, ["method", "params"])?;
            let method = method.map(json::string).transpose()?.unwrap_or_default();
            let answer = hearer.answer(&method, params).await;
            let answer = answer.ok_or_else(|| {
                ClientError::Protocol(format!(
                    "requires {}, which this client does not support",
                    quote(&method)
                ))
            })?;
            answers.push(format!("{key}:{answer}"));
        }
        Ok(format!("{{{}}}", answers.join(",")))
    }
}
