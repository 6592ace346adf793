//! The stream of a call as its client reads it. It must not know how its messages come about.

use bytes::Bytes;

use super::mcp::{ModernOnLegacy, RelayedStream, SameLegacy, SameModern, UpstreamStream};

/// A call's stream.
pub struct AnswerStream(Source);

/// The source of its messages.
enum Source {
    /// A legacy upstream, for a legacy client.
    SameLegacy(Box<UpstreamStream<SameLegacy>>),
    /// A modern upstream, for a modern client.
    SameModern(Box<UpstreamStream<SameModern>>),
    /// A legacy upstream, for a modern client.
    ModernOnLegacy(Box<UpstreamStream<ModernOnLegacy>>),
    /// A task of this worker, or another edge, that relays the messages.
    Relayed(Box<RelayedStream>),
}

impl AnswerStream {
    /// Returns the next event as it is written to the client, or `None` at the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Source::SameLegacy(stream) => stream.next().await,
            Source::SameModern(stream) => stream.next().await,
            Source::ModernOnLegacy(stream) => stream.next().await,
            Source::Relayed(stream) => stream.next().await,
        }
    }

    /// Returns the next message, or `None` at the end, for a client that is sent messages and no events.
    pub async fn message(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Source::SameLegacy(stream) => stream.message().await,
            Source::SameModern(stream) => stream.message().await,
            Source::ModernOnLegacy(stream) => stream.message().await,
            Source::Relayed(stream) => stream.message().await,
        }
    }

    /// Whether its last message was read.
    pub fn is_finished(&self) -> bool {
        match &self.0 {
            Source::SameLegacy(stream) => stream.is_finished(),
            Source::SameModern(stream) => stream.is_finished(),
            Source::ModernOnLegacy(stream) => stream.is_finished(),
            Source::Relayed(stream) => stream.is_finished(),
        }
    }

    /// Whether its response has come, so that nothing more is waited for.
    pub fn has_response(&self) -> bool {
        match &self.0 {
            Source::SameLegacy(stream) => stream.has_response(),
            Source::SameModern(stream) => stream.has_response(),
            Source::ModernOnLegacy(stream) => stream.has_response(),
            Source::Relayed(stream) => stream.is_finished(),
        }
    }

    /// Ends a call that its caller may no longer make: the client is sent nothing more of it.
    pub fn withdraw(&mut self) {
        match &mut self.0 {
            Source::SameLegacy(stream) => stream.withdraw(),
            Source::SameModern(stream) => stream.withdraw(),
            Source::ModernOnLegacy(stream) => stream.withdraw(),
            Source::Relayed(stream) => stream.withdraw(),
        }
    }

    /// Returns the response alone, for a client that cannot be sent events.
    pub async fn final_message(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Source::SameLegacy(stream) => stream.final_message().await,
            Source::SameModern(stream) => stream.final_message().await,
            Source::ModernOnLegacy(stream) => stream.final_message().await,
            Source::Relayed(stream) => stream.final_message().await,
        }
    }
}

impl From<Box<UpstreamStream<SameLegacy>>> for AnswerStream {
    fn from(stream: Box<UpstreamStream<SameLegacy>>) -> Self {
        Self(Source::SameLegacy(stream))
    }
}

impl From<Box<UpstreamStream<SameModern>>> for AnswerStream {
    fn from(stream: Box<UpstreamStream<SameModern>>) -> Self {
        Self(Source::SameModern(stream))
    }
}

impl From<Box<UpstreamStream<ModernOnLegacy>>> for AnswerStream {
    fn from(stream: Box<UpstreamStream<ModernOnLegacy>>) -> Self {
        Self(Source::ModernOnLegacy(stream))
    }
}

impl From<Box<RelayedStream>> for AnswerStream {
    fn from(stream: Box<RelayedStream>) -> Self {
        Self(Source::Relayed(stream))
    }
}
