//! Recognizes responses with which servers refuse a session that they do not know. It must not know what is done about it.

use http::StatusCode;
use mcp::json;
use mcp::message::Envelope;
use mcp::session_loss::Refusal;

use super::upstream_session::UpstreamSession;
use crate::error::Fault;
use crate::upstream::connect::HttpResponse;

/// Largest body of a refusal that is read.
const MAX_REFUSAL: usize = 256 << 10;

/// The messages with which the TypeScript and Python SDKs refuse, with status 400, a session that they do not know.
const UNKNOWN_SESSION: [&str; 2] =
    ["Bad Request: No valid session ID provided", "Bad Request: Server not initialized"];

/// Returns the response, unless it says that the session is gone: with the protocol's 404, which comes before anything is
/// done, or with the messages of the SDKs. Servers also answer a request by 404, with an error that has its id.
pub(in crate::upstream) async fn unless_session_unknown(
    session: &UpstreamSession,
    mut response: HttpResponse,
) -> Result<Option<HttpResponse>, Fault> {
    let unknown = match response.status {
        StatusCode::NOT_FOUND if session.has_id() => match response.buffer(MAX_REFUSAL).await {
            Ok(body) => !Refusal::read(404, &body).has_number,
            // Refusals of sessions are short and whole: what is not may bear the id of the request.
            Err(fault) => return Err(fault),
        },
        StatusCode::BAD_REQUEST if session.has_id() && session.is_confirmed() => {
            is_unknown_session(&response.buffer(MAX_REFUSAL).await?)
        }
        _ => false,
    };
    Ok((!unknown).then_some(response))
}

/// Whether the body of a 400 is the one of an SDK that does not know the session. A response that echoes the id of our
/// request, which is a number, may come from the handler, after something was done.
fn is_unknown_session(body: &[u8]) -> bool {
    let Ok(envelope) = Envelope::look(body) else {
        return std::str::from_utf8(body).is_ok_and(|text| UNKNOWN_SESSION.contains(&text.trim()));
    };
    let Some(error) = envelope.error.filter(|_| envelope.id.is_none_or(|id| id.starts_with('"'))) else {
        return false;
    };
    let [code, message] = json::members(error, ["code", "message"]).unwrap_or_default();
    let message = message.and_then(|message| json::string(message).ok());
    matches!(code, Some("-32000" | "-32600")) && message.is_some_and(|text| UNKNOWN_SESSION.contains(&&*text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_messages_of_sdks_are_taken_for_an_unknown_session() {
        let error = |id: &str, code: i64, message: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#)
        };
        let [unknown, cold] = UNKNOWN_SESSION;
        for (body, gone) in [
            (unknown.to_owned(), true),
            (error("null", -32000, unknown), true),
            (error("\"server-error\"", -32600, cold), true),
            (error("7", -32000, unknown), false),
            (error("null", -32602, unknown), false),
            (error("null", -32000, "the session of this customer is closed"), false),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"session":1}}"#.to_owned(), false),
            ("no session".to_owned(), false),
        ] {
            assert_eq!(is_unknown_session(body.as_bytes()), gone, "{body}");
        }
    }
}
