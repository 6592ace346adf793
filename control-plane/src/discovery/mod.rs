//! The stream to edges: what each edge has, what it must be sent, and what it made of it.
//!
//! It must not know how the world is made.

pub mod session;
mod substream;
