//! The client half: puts what a server sends into a sink, and acknowledges what is in force.
//!
//! `subscriber` decides; `requests` are what it says; `sink` is where resources go; `resource` is one of them on its way
//! there. It must not know what a resource says.

mod requests;
mod resource;
mod sink;
mod subscriber;

pub use resource::{Candidate, Refusal};
pub use sink::Sink;
pub use subscriber::{Action, Event, Subscriber};
