//! The stream over a made-up table of types: case by case, and by chance.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so where it stands")]

mod library;
mod server;
mod server_by_chance;
