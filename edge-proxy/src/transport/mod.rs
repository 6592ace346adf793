//! Bytes of HTTP and WebSocket to messages and back. It must not know who is calling or what is called.

mod body;
pub mod door;
mod gathered;
mod message;
pub mod path;
pub mod streamable;
pub mod websocket;
mod wire;

pub use body::{Body, Chunks};
pub use gathered::{Gathered, TooLarge};
pub use message::{Message, unreadable};
pub use wire::Wire;
