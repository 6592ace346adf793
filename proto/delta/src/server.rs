//! The server half: keeps one client at the newest snapshot, and knows what it has accepted and what it refuses.
//!
//! `session` is a stream, in which the types wait for each other; `substream` is one type on it. It must not know other
//! clients.

mod difference;
mod response;
mod session;
mod subscription;
mod substream;

pub use response::OutgoingResponse;
pub use session::{Action, Event, Progress, Session};
