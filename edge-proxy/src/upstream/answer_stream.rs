//! The stream of a call as its client reads it. It must not know where its messages come from.

use bytes::Bytes;

use super::mcp::{RelayedStream, UpstreamStream};

/// A call's stream.
#[expect(clippy::large_enum_variant, reason = "it is boxed as a whole")]
pub enum AnswerStream {
    /// Events of the upstream itself.
    Upstream(UpstreamStream),
    /// Messages that a task of this worker, or another edge, relays.
    Relayed(RelayedStream),
}

impl AnswerStream {
    /// Returns the next event as it is written to the client, or `None` at the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Upstream(stream) => stream.next().await,
            Self::Relayed(stream) => stream.next().await,
        }
    }

    /// Returns the next message, or `None` at the end, for a client that is sent messages and no events.
    pub async fn message(&mut self) -> Option<Bytes> {
        match self {
            Self::Upstream(stream) => stream.message().await,
            Self::Relayed(stream) => stream.message().await,
        }
    }

    /// Whether its last message was read.
    pub fn is_finished(&self) -> bool {
        match self {
            Self::Upstream(stream) => stream.is_finished(),
            Self::Relayed(stream) => stream.is_finished(),
        }
    }

    /// Whether its response has come, so that nothing more is waited for.
    pub fn has_response(&self) -> bool {
        match self {
            Self::Upstream(stream) => stream.has_response(),
            Self::Relayed(stream) => stream.is_finished(),
        }
    }

    /// Ends a call that its caller may no longer make: the client is sent nothing more of it.
    pub fn withdraw(&mut self) {
        match self {
            Self::Upstream(stream) => stream.withdraw(),
            Self::Relayed(stream) => stream.withdraw(),
        }
    }

    /// Returns the response alone, for a client that cannot be sent events.
    pub async fn final_message(&mut self) -> Option<Bytes> {
        match self {
            Self::Upstream(stream) => stream.final_message().await,
            Self::Relayed(stream) => stream.final_message().await,
        }
    }
}
