//! Calls upstreams: warm connections, pooled legacy sessions, both eras, and the translation of their messages.
//!
//! It must not know how the client is spoken to. Nothing is called without a `Permit`.

mod answer_stream;
mod bridge;
mod call;
mod call_tasks;
mod channel;
mod content;
mod context;
mod detached;
mod http_pool;
mod http_response;
mod in_flight;
mod legacy;
mod message_source;
mod modern;
mod reconnect;
mod relayed_stream;
mod request_state;
mod response;
mod resume;
mod resumption_token;
mod server_requests;
mod session_messages;
mod subscription;
mod task;
mod translation;
mod upstream_stream;

pub use answer_stream::AnswerStream;
pub use call::{Call, call};
pub use context::{Context, Environment};
pub use in_flight::SessionCommand;
pub use response::CallResponse;
pub use resume::{Resumption, resume};
pub use server_requests::{ServerRequestId, answer};
pub use subscription::{SubscriptionNotice, SubscriptionTargets, UpstreamSubscription};
pub use task::Task;
