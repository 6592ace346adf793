//! HTTP headers of the protocol: their names, and how values are written into them.
//!
//! It must not know requests or responses as a whole.

mod mirror;
mod session;
mod value;

pub use mirror::{MirrorError, MirroredParam, mirror, mirrored_params, verify};
pub use session::{SessionIdError, session_id};
pub use value::{ValueError, decode_value, encode_value};

/// The session, up to 2025-11-25.
pub const SESSION_ID: &str = "mcp-session-id";
/// The revision of a request.
pub const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// The body's method, since 2026-07-28.
pub const METHOD: &str = "mcp-method";
/// The target that the body's params name, since 2026-07-28.
pub const NAME: &str = "mcp-name";
/// Before the name of a mirrored argument, since 2026-07-28.
pub const PARAM_PREFIX: &str = "mcp-param-";
/// The last event that was seen of a stream that broke, up to 2025-11-25.
pub const LAST_EVENT_ID: &str = "last-event-id";
/// The `Accept` of a POST.
pub const ACCEPT_BOTH: &str = "application/json, text/event-stream";
/// The media type of messages.
pub const JSON: &str = "application/json";
/// The media type of streams.
pub const EVENT_STREAM: &str = "text/event-stream";
