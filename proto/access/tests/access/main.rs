//! Conditions, grants and decisions, from outside the crate.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so where it stands")]

mod decide;
mod explain;
mod fields;
mod fuzz;
mod programs;
mod rules;
mod vain;
mod windows;
