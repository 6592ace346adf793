//! Calls upstreams: warm connections, pooled legacy sessions, both eras, and the translation of their messages.
//!
//! It must not know how the client is spoken to. Nothing is called without a `Permit`.

mod answer_stream;
mod call;
mod connect;
mod context;
mod mcp;

pub use answer_stream::AnswerStream;
pub use call::{Call, CallResponse, call};
pub use context::{Context, Environment};

pub use self::mcp::{
    Resumption, ServerRequestId, SessionCommand, SubscriptionNotice, SubscriptionTargets, Task,
    UpstreamSubscription, answer, resume,
};
