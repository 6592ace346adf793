//! The stream over a made-up table of types: case by case, and by chance.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so where it stands")]

mod both_by_chance;
mod bounds;
mod client;
mod library;
mod map_sink;
mod server;
mod server_by_chance;
