//! How servers turn away a session that they do not know, where they do not say 404.
//!
//! It must not know what is done about it.

use mcp::json;
use mcp::message::Envelope;

/// What the TypeScript and Python SDKs say, with status 400, to a session that they do not know.
const TURNED_AWAY: [&str; 2] =
    ["Bad Request: No valid session ID provided", "Bad Request: Server not initialized"];

/// Whether an answer 400 is the one that SDKs give at the door to a session that they do not know. What echoes the id
/// of our request, which is a number, may have come from behind the door.
pub(super) fn is_turned_away(body: &[u8]) -> bool {
    let Ok(envelope) = Envelope::parse(body) else {
        return std::str::from_utf8(body).is_ok_and(|text| TURNED_AWAY.contains(&text.trim()));
    };
    let Some(error) = envelope.error.filter(|_| envelope.id.is_none_or(|id| id.starts_with('"'))) else {
        return false;
    };
    let [code, message] = json::members(error, ["code", "message"]).unwrap_or_default();
    let message = message.and_then(|message| json::string(message).ok());
    matches!(code, Some("-32000" | "-32600")) && message.is_some_and(|text| TURNED_AWAY.contains(&&*text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_words_of_the_door_are_taken_for_a_forgotten_session() {
        let error = |id: &str, code: i64, message: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#)
        };
        let [unknown, cold] = TURNED_AWAY;
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
            assert_eq!(is_turned_away(body.as_bytes()), gone, "{body}");
        }
    }
}
