//! The checks that every listener makes, whatever it serves: the names that it answers to, the connections that it keeps
//! open for strangers, and the memory that request bodies may take.
//!
//! It must not know what is served, nor how callers prove who they are.

mod line_endings;
pub mod names;

pub use line_endings::StrictLines;
