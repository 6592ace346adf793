//! All SQL of the program.
//!
//! It must not know what is written means.

pub mod keys;
