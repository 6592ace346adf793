//! The stream of a call as its client reads it. It must not know where its messages come from.

use bytes::Bytes;

use super::relayed_stream::RelayedStream;
use super::upstream_stream::UpstreamStream;

/// A call's stream.
#[expect(clippy::large_enum_variant, reason = "it is boxed as a whole")]
pub enum AnswerStream {
    /// As it comes from the upstream.
    Upstream(UpstreamStream),
    /// As it is told by a task of this worker, or by another edge.
    Relayed(RelayedStream),
}

impl AnswerStream {
    /// The next event as it is written to the client, or `None` at the end. The future may be dropped and made anew.
    pub async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Upstream(stream) => stream.next().await,
            Self::Relayed(stream) => stream.next().await,
        }
    }

    /// The next message, or `None` at the end, for a client that is sent messages and no events.
    pub async fn message(&mut self) -> Option<Bytes> {
        match self {
            Self::Upstream(stream) => stream.message().await,
            Self::Relayed(stream) => stream.message().await,
        }
    }

    /// Whether everything was told.
    pub fn is_finished(&self) -> bool {
        match self {
            Self::Upstream(stream) => stream.is_finished(),
            Self::Relayed(stream) => stream.done,
        }
    }

    /// Ends a call that its caller may not make any more: nothing of it is told from now on.
    pub fn withdraw(&mut self) {
        match self {
            Self::Upstream(stream) => stream.withdraw(),
            Self::Relayed(stream) => stream.withdraw(),
        }
    }

    /// The answer alone, for a client that cannot be sent events.
    pub async fn final_message(&mut self) -> Option<Bytes> {
        match self {
            Self::Upstream(stream) => stream.final_message().await,
            Self::Relayed(stream) => stream.final_message().await,
        }
    }
}
