//! Bytes of HTTP to messages and back. It must not know who is calling or what is called.

mod body;
pub mod door;
mod gathered;
mod message;
pub mod streamable;

pub use body::{Body, Chunks};
pub use gathered::{Gathered, TooLarge};
pub use message::{Message, unreadable};
