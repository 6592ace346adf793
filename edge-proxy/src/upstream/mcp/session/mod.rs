//! Sessions with legacy upstreams, which the clients of one worker share where they declared the same capabilities.
//!
//! It must not know calls, nor the modern era.

mod address;
mod exclusive_sessions;
mod handshake;
mod heal;
mod reestablish;
mod restraint;
mod server_stream;
mod session_errors;
mod session_key;
mod session_losses;
mod session_pool;
mod upstream_session;

pub(super) use self::address::has_id;
pub(in crate::upstream) use self::exclusive_sessions::ExclusiveSession;
pub use self::exclusive_sessions::ExclusiveSessions;
pub(super) use self::exclusive_sessions::SessionHolder;
pub(super) use self::handshake::{initialize, may_be_about_revision, negotiated, offers, set_level};
pub(super) use self::heal::is_no_answer;
pub(super) use self::restraint::Restraint;
pub(super) use self::server_stream::{FinalMessage, ServerMessages};
pub(super) use self::session_errors::unless_session_unknown;
pub(in crate::upstream) use self::session_key::SessionKey;
pub use self::session_losses::SessionLosses;
pub(in crate::upstream) use self::session_pool::SessionPool;
pub(super) use self::upstream_session::{SessionTransport, UpstreamSession, post_sender};
