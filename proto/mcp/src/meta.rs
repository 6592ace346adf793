//! Keys of `_meta` that the protocol defines.
//!
//! It must not know what anyone does with them.

/// The member of params and results that holds them.
pub const META: &str = "_meta";
/// Where the keys of the protocol itself begin.
pub const RESERVED: &str = "io.modelcontextprotocol/";
/// In requests: the revision; required since 2026-07-28.
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// In requests: what the client can do; required since 2026-07-28, may be empty.
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// In requests: who the client is.
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// In requests: log messages from this level on are wanted.
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// In results: who the server is.
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// In what a listen stream carries: the id of the listen request.
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// 2025-11-25: the task that a message belongs to.
pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
/// In requests: progress notifications are wanted and shall carry this token.
pub const PROGRESS_TOKEN: &str = "progressToken";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// W3C trace state.
pub const TRACESTATE: &str = "tracestate";
/// W3C baggage.
pub const BAGGAGE: &str = "baggage";
