//! The JSON-RPC errors that `expose` and `connect` report of themselves. No edge uses their codes: docs/OPERATIONS.md has
//! all of them.

use bytes::Bytes;

/// What went wrong on this side of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BridgeError {
    /// `connect`: the edge refused a message, or answered what is no answer.
    EdgeRefused,
    /// `connect`: no edge was reached in time.
    EdgeUnreachable,
    /// `expose`: the client that the command asks something has disconnected.
    ClientGone,
    /// `expose`: the command ended before it responded.
    CommandEnded,
    /// `expose`: the command has not completed the handshake, or does not run any more.
    NotReady,
    /// `expose`: too many calls are in flight.
    TooManyCalls,
    /// `expose`: too many sessions are open.
    TooManySessions,
    /// `expose`: too many copies of the command run for different header values.
    TooManyCopies,
    /// `expose`: what the command answered cannot be read.
    AnswerUnreadable,
}

impl BridgeError {
    /// Its code, which edges use for nothing else.
    #[must_use]
    pub fn code(self) -> i64 {
        match self {
            Self::EdgeRefused => -31_011,
            Self::EdgeUnreachable => -31_012,
            Self::ClientGone => -31_201,
            Self::CommandEnded => -31_202,
            Self::NotReady => -31_203,
            Self::AnswerUnreadable => -31_204,
            Self::TooManyCalls | Self::TooManySessions | Self::TooManyCopies => -31_205,
        }
    }

    /// `data.reason`.
    fn reason(self) -> &'static str {
        match self {
            Self::EdgeRefused => "edge_refused",
            Self::EdgeUnreachable => "edge_unreachable",
            Self::ClientGone => "client_gone",
            Self::CommandEnded => "command_ended",
            Self::NotReady => "command_not_ready",
            Self::TooManyCalls => "too_many_calls",
            Self::TooManySessions => "too_many_sessions",
            Self::TooManyCopies => "too_many_copies",
            Self::AnswerUnreadable => "command_answer_unreadable",
        }
    }

    /// The response to the request with this raw id.
    #[must_use]
    pub fn render(self, id: Option<&str>, message: &str) -> Bytes {
        let data = format!(r#"{{"reason":"{}"}}"#, self.reason());
        mcp::error::render(id, self.code(), message, Some(&data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_reason_to_programs() {
        let error = BridgeError::CommandEnded.render(Some("7"), "it ended");
        let expected = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-31202,"message":"it ended","data":{"reason":"command_ended"}}}"#;
        assert_eq!(error, expected);
    }
}
