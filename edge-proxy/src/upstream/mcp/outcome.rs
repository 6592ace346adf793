//! The outcomes that calls are counted under, as responses show them.

use mcp::error as codes;
use mcp::json;
use mcp::message::Envelope;
use memchr::memmem;

use crate::usage::Outcome;

/// Returns the outcome of a result. The search for `isError` comes first: few results say it, and many are long.
pub(super) fn outcome_of_result(result: &str) -> Outcome {
    let is_error = memmem::find(result.as_bytes(), br#""isError""#).is_some()
        && json::members(result, ["isError"]).is_ok_and(|[flag]| flag == Some("true"));
    if is_error { Outcome::ToolError } else { Outcome::Ok }
}

/// Returns the outcome of an error with this code.
pub(super) fn outcome_of_code(code: i64) -> Outcome {
    match code {
        codes::INVALID_REQUEST
        | codes::METHOD_NOT_FOUND
        | codes::INVALID_PARAMS
        | codes::RESOURCE_NOT_FOUND
        | codes::MISSING_CAPABILITY
        | codes::URL_ELICITATION_REQUIRED => Outcome::ClientError,
        _ => Outcome::UpstreamError,
    }
}

/// Returns the outcome of a response.
pub(super) fn outcome_of_response(message: &[u8]) -> Outcome {
    let Ok(envelope) = Envelope::parse(message) else { return Outcome::UpstreamError };
    let code = envelope.error.map(|error| json::members(error, ["code"]).unwrap_or_default());
    match (envelope.result, code) {
        (Some(result), _) => outcome_of_result(result),
        (None, Some([Some(code)])) => outcome_of_code(code.parse().unwrap_or_default()),
        _ => Outcome::UpstreamError,
    }
}
